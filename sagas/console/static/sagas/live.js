// Keeps a page about something that moves up to date, without losing the reader's place.
//
// The server tells the same part of the page again; sections that changed are replaced, what was
// unfolded stays unfolded, what had the focus keeps it, and nothing above the reader's eyes jumps.
// While the page is hidden, nothing is asked. Without JavaScript the page is simply reloaded by hand.

const LONGEST_PAUSE_MS = 30000;

const root = document.querySelector("[data-live]");
const PAUSE_MS = Number(root?.dataset.liveEvery ?? 2000);
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
  const typing = active && section.contains(active) && active.matches("input:not([type=checkbox]), select, textarea");
  const selecting = chosen && !chosen.isCollapsed && section.contains(chosen.anchorNode);
  return typing || selecting;
}

function pathTo(element) {
  // Enough to find the same element in a section that was told anew.
  if (element.id) return `#${CSS.escape(element.id)}`;
  if (element.tagName === "SUMMARY" && element.parentElement.id) {
    return `#${CSS.escape(element.parentElement.id)} > summary`;
  }
  if (element.matches("input.action-select")) return `input.action-select[value="${CSS.escape(element.value)}"]`;
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

// --- Overviews and lists: told as whole pages, of which parts are taken -------------------------------

function under() {
  // What the pointer is on, if anything: a row, or a part. A finger is nowhere between two taps.
  if (!matchMedia("(hover: hover)").matches) return null;
  const hovered = [...root.querySelectorAll(":hover")].pop();
  return hovered?.closest("#result_list > tbody > tr, [data-part]") ?? null;
}

function inUse(part) {
  // Somebody types or selects there, has ticked it, or is about to click.
  const pointed = part.querySelector("a:hover, button:hover, summary:hover, label:hover, input:hover") || part.matches("a:hover");
  const ticked = part.querySelector("input.action-select:checked");
  return busyWith(part) || ticked || pointed;
}

function swap(pairs) {
  // In place of each its successor; all back again where what is under the pointer could not stay there.
  const held = under();
  const heir = pairs.find(([before]) => before === held)?.[1] ?? held;
  const top = held?.getBoundingClientRect().top;
  const was = held ? null : place();
  const unfolded = openDetails();
  const focused = root.contains(document.activeElement) ? pathTo(document.activeElement) : null;
  const scrolled = window.scrollY;
  for (const [before, after] of pairs) {
    for (const item of after.querySelectorAll("details[id]")) item.open = unfolded.has(item.id);
    before.replaceWith(after);
  }
  if (held) {
    window.scrollBy(0, heir.getBoundingClientRect().top - top);
    if (Math.abs(heir.getBoundingClientRect().top - top) > 1) {
      for (const [before, after] of pairs) after.replaceWith(before);
      window.scrollTo(window.scrollX, scrolled);
      return false;
    }
  } else if (was && scrolled > 0) {
    const now = document.getElementById(was.id);
    if (now) window.scrollBy(0, now.getBoundingClientRect().top - was.top);
  }
  if (focused && !root.contains(document.activeElement)) {
    root.querySelector(focused)?.focus({ preventScroll: true });
  }
  return true;
}

function keyOf(row) {
  return row.querySelector("th a[href]")?.getAttribute("href") ?? row.textContent;
}

function rebound(table) {
  // Django's script knows the boxes that were there when the page was opened: it is told of the new ones.
  const toggle = table.querySelector("#action-toggle");
  if (!toggle || !window.Actions) return;
  toggle.replaceWith(toggle.cloneNode());
  window.Actions(table.querySelectorAll("tr input.action-select"));
}

function replaceRows(fresh) {
  // The same rows are told anew where they stand. Others come only when nobody is about to choose one.
  const table = root.querySelector("#result_list");
  const body = table?.tBodies[0];
  const told = fresh.querySelector("#result_list")?.tBodies[0];
  if (!body || !told) return !body === !told;
  const rows = [...body.rows];
  const byKey = new Map([...told.rows].map((row) => [keyOf(row), row]));
  const same = rows.length === byKey.size && rows.every((row, at) => keyOf(row) === keyOf(told.rows[at]));
  if (!same) {
    const chosen = body.matches(":hover") || inUse(body);
    if (!chosen) {
      const after = document.importNode(told, true);
      if (swap([[body, after]])) {
        rebound(table);
        return true;
      }
    }
  }
  const pairs = [];
  for (const row of rows) {
    const after = byKey.get(keyOf(row));
    if (!after || inUse(row)) continue;
    if (row.innerHTML === after.innerHTML) continue;
    const copy = document.importNode(after, true);
    // Django's script knows the box itself: that one goes along.
    const box = row.querySelector("input.action-select");
    if (box) copy.querySelector("input.action-select")?.replaceWith(box);
    pairs.push([row, copy, box]);
  }
  if (pairs.length && !swap(pairs)) {
    for (const [row, , box] of pairs) if (box) row.querySelector(".action-checkbox").prepend(box);
  }
  return same;
}

function replaceParts(page) {
  const fresh = page.getElementById(root.id);
  if (!fresh) throw new Error("the page is another");
  let whole = true;
  const pairs = [];
  for (const part of root.querySelectorAll("[data-part]")) {
    const after = fresh.querySelector(`[data-part="${CSS.escape(part.dataset.part)}"]`);
    if (!after || part.outerHTML === after.outerHTML) continue;
    if (inUse(part)) whole = false;
    else pairs.push([part, document.importNode(after, true)]);
  }
  if (pairs.length && !swap(pairs)) whole = false;
  if (!replaceRows(fresh)) whole = false;
  const note = root.querySelector("[data-live-note]");
  if (note) note.hidden = whole;
}

async function look() {
  try {
    const answer = await fetch(root.dataset.live, {
      headers: { "X-Live": "1", ...(etag ? { "If-None-Match": etag } : {}) },
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
    });
    if (answer.status === 200) {
      etag = answer.headers.get("ETag");
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (root.dataset.liveWhole !== undefined) replaceParts(page);
      else replace(page.body);
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
