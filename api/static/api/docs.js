// Served as a file, because the policy allows no script inside a page.
const place = document.getElementById("swagger-ui");

// As the reader's system has it, and as it changes.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

// crypto.randomUUID is there on pages of https and of this machine only.
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// What Swagger UI leaves to the eyes alone: names for what has none, and the keyboard's way to what scrolls.
const NAMES = {
  "#servers": "Server",
  ".examples-select-element": "Example",
  "select.content-type": "Media type",
  ".close-modal": "Close",
  "textarea.body-param__text": "Request body",
};
function help() {
  for (const [selector, name] of Object.entries(NAMES)) {
    for (const found of place.querySelectorAll(`${selector}:not([aria-label])`)) {
      found.setAttribute("aria-label", name);
    }
  }
  for (const found of place.querySelectorAll(".microlight:not([tabindex]), .curl:not([tabindex])")) {
    found.tabIndex = 0;
  }
  // A link inside of a button cannot be reached; the button opens the operation, and writes its address.
  for (const link of place.querySelectorAll("button.opblock-summary-control a[href]")) {
    link.removeAttribute("href");
  }
}
let asked = false;
new MutationObserver(() => {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; help(); });
}).observe(place, { childList: true, subtree: true });

SwaggerUIBundle({
  url: place.dataset.schema,
  domNode: place,
  deepLinking: true,
  // A token that was typed in is gone with the page: the browser's storage is no place for it.
  persistAuthorization: false,
  // Its validator would be asked on somebody else's server.
  validatorUrl: null,
  // Each time a new order. Who wants to see the same one again types a key of their own.
  requestInterceptor: (request) => {
    if (request.headers?.["Idempotency-Key"] === place.dataset.sampleKey) {
      request.headers["Idempotency-Key"] = newKey();
    }
    return request;
  },
});
