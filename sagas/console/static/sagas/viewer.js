// Tells the server the browser's time zone, once, and puts the first page's times into it meanwhile.

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
  const clock = new Intl.DateTimeFormat("sv-SE", {
    hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3,
  });
  for (const time of document.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    const inner = time.querySelector(".clock");
    if (!inner || Number.isNaN(at.getTime())) continue;
    time.firstChild.textContent = `${day.format(at)} `;
    inner.textContent = clock.format(at).replace(",", ".");
  }
}

// On a telephone the filters come first, in one line: unfolded where some are in use, and without this script.
const filters = document.querySelector("#filters-fold:not([data-active])");
if (filters && matchMedia("(max-width: 767px)").matches) filters.open = false;

// What scrolls sideways on a narrow screen can be reached, and scrolled, with the keyboard.
for (const region of document.querySelectorAll(".inline-group, .inline-group .tabular, #changelist .results")) {
  if (region.scrollWidth > region.clientWidth) region.tabIndex = 0;
}
