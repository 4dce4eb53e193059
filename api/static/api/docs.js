// Served as a file, because the policy allows no script inside a page.
const place = document.getElementById("swagger-ui");
SwaggerUIBundle({
  url: place.dataset.schema,
  domNode: place,
  deepLinking: true,
  // A token that was typed in is gone with the page: the browser's storage is no place for it.
  persistAuthorization: false,
  // Its validator would be asked on somebody else's server.
  validatorUrl: null,
});
