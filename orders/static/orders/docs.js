// Served as a file, because the policy allows no script inside a page.
const place = document.getElementById("swagger-ui");
SwaggerUIBundle({
  url: place.dataset.schema,
  domNode: place,
  deepLinking: true,
  persistAuthorization: true,
  // Its validator would be asked on somebody else's server.
  validatorUrl: null,
});
