// Tells the server the browser's time zone, once, and puts all times of the first page into it meanwhile.

const COOKIE = "zone";
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const told = document.cookie
  .split("; ")
  .find((pair) => pair.startsWith(`${COOKIE}=`))
  ?.slice(COOKIE.length + 1)
  .replaceAll('"', "");

// A zone that was chosen by hand ends in "!", and is left alone.
if (zone && !told?.endsWith("!") && told !== zone) {
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${COOKIE}=${zone}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
  const day = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short" });
  const minute = new Intl.DateTimeFormat("sv-SE", { hour: "2-digit", minute: "2-digit" });
  const clock = new Intl.DateTimeFormat("sv-SE", {
    hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3,
  });
  const exact = (at) => clock.format(at).replace(",", ".");
  for (const time of document.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const inner = time.querySelector(".clock");
    if (inner) {
      time.firstChild.textContent = `${day.format(at)} `;
      inner.textContent = exact(at);
    } else {
      // Of today it says the minute alone, and of an axis always the day too.
      const today = time.classList.contains("minute") && day.format(at) === day.format(new Date());
      time.textContent = today ? minute.format(at) : `${day.format(at)} ${minute.format(at)}`;
    }
  }
  // Sentences have their moments as text.
  const UTC = /(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d\.\d{3}) UTC/g;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    if (text.parentElement.closest("pre, code, textarea, script") || !text.data.includes(" UTC")) continue;
    text.data = text.data.replace(UTC, (_all, on, hour) => {
      const at = new Date(`${on}T${hour}Z`);
      return `${day.format(at)} ${exact(at)}`;
    });
  }
  // The page's head says in which zone they are.
  const head = document.querySelector("[data-zone]");
  if (head) head.textContent = head.textContent.replace(head.dataset.zone, zone);
}

// On a telephone the filters come first, in one line that says whether some are in use.
const filters = document.querySelector("#filters-fold");
if (filters && matchMedia("(max-width: 767px)").matches) filters.open = false;

// What scrolls sideways on a narrow screen can be reached, and scrolled, with the keyboard.
for (const region of document.querySelectorAll(".inline-group, .inline-group .tabular, #changelist .results")) {
  if (region.scrollWidth > region.clientWidth) region.tabIndex = 0;
}
