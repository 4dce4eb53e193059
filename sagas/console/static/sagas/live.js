// Keeps a page about something that moves up to date, without losing the reader's place.
//
// The server tells the same part of the page again; sections that changed are replaced, what was
// unfolded stays unfolded, what had the focus keeps it, and nothing above the reader's eyes jumps.
// While the page is hidden, nothing is asked. Without JavaScript the page is simply reloaded by hand.

const PAUSE_MS = 2000;
const LONGEST_PAUSE_MS = 30000;

const root = document.querySelector("[data-live]");
const says = document.getElementById("live-says");
let etag = null;
let pause = PAUSE_MS;

function place() {
  // The topmost section in view is what the reader looks at: it stays where it is.
  for (const section of root.querySelectorAll("[id]")) {
    const box = section.getBoundingClientRect();
    if (box.bottom > 0 && box.height > 0) return { id: section.id, top: box.top };
  }
  return null;
}

function openDetails() {
  return new Set([...root.querySelectorAll("details[open][id]")].map((item) => item.id));
}

function busyWith(section) {
  const active = document.activeElement;
  const chosen = document.getSelection();
  const typing = active && section.contains(active) && active.matches("input, select, textarea");
  const selecting = chosen && !chosen.isCollapsed && section.contains(chosen.anchorNode);
  return typing || selecting;
}

function pathTo(element) {
  // Enough to find the same element in a section that was told anew.
  if (element.id) return `#${CSS.escape(element.id)}`;
  if (element.tagName === "SUMMARY" && element.parentElement.id) {
    return `#${CSS.escape(element.parentElement.id)} > summary`;
  }
  const link = element.getAttribute("href");
  return link ? `a[href="${CSS.escape(link)}"]` : null;
}

function replace(fresh) {
  const was = place();
  const unfolded = openDetails();
  const spoken = root.querySelector("[data-announce]")?.textContent.trim();
  const focused = root.contains(document.activeElement) ? pathTo(document.activeElement) : null;
  const scrolled = new Map(
    [...root.querySelectorAll(".scroll, pre")].map((item, index) => [index, [item.scrollLeft, item.scrollTop]]),
  );

  for (const item of fresh.querySelectorAll("details[id]")) item.open = unfolded.has(item.id);
  const old = new Map([...root.children].filter((item) => item.id).map((item) => [item.id, item]));
  let kept = 0;
  for (const section of [...fresh.children]) {
    const before = old.get(section.id);
    if (before && (before.outerHTML === section.outerHTML || busyWith(before))) {
      section.replaceWith(before);
      kept += 1;
    }
  }
  if (kept === old.size && fresh.children.length === root.children.length) {
    // Nothing of it is new: put back what was there.
    root.replaceChildren(...fresh.childNodes);
  } else {
    root.replaceChildren(...fresh.childNodes);
    [...root.querySelectorAll(".scroll, pre")].forEach((item, index) => {
      const at = scrolled.get(index);
      if (at) [item.scrollLeft, item.scrollTop] = at;
    });
  }
  if (focused) root.querySelector(focused)?.focus({ preventScroll: true });
  if (was) {
    const now = document.getElementById(was.id);
    if (now) window.scrollBy(0, now.getBoundingClientRect().top - was.top);
  }
  const word = root.querySelector("[data-announce]")?.textContent.trim();
  if (word && word !== spoken) says.textContent = word;
}

async function look() {
  try {
    const answer = await fetch(root.dataset.live, {
      headers: etag ? { "If-None-Match": etag } : {},
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
    });
    if (answer.status === 200) {
      etag = answer.headers.get("ETag");
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      replace(page.body);
      root.dispatchEvent(new CustomEvent("told", { bubbles: true }));
    } else if (answer.status !== 304) {
      throw new Error(`the server answered ${answer.status}`);
    }
    pause = PAUSE_MS;
    root.classList.remove("live-lost");
    if (answer.headers.get("X-Saga-Live") === "0") return;
  } catch {
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    root.classList.add("live-lost");
  }
  next();
}

function next() {
  setTimeout(() => {
    if (document.hidden) document.addEventListener("visibilitychange", look, { once: true });
    else look();
  }, pause);
}

if (root) next();
