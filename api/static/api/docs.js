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

SwaggerUIBundle({
  url: place.dataset.schema,
  domNode: place,
  deepLinking: true,
  // A token that was typed in is gone with the page: the browser's storage is no place for it.
  persistAuthorization: false,
  // Its own label of the choice of a server is bound to nothing.
  onComplete: () => document.getElementById("servers")?.setAttribute("aria-label", "Server"),
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
