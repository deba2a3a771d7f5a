// Shows the document that is beside this directory, and asks nothing of any other host: there is no
// online validator, and of an OpenID provider, which Swagger UI would ask at once, it is not told.
const response = fetch("../openapi.json").then((response) => response.json());
response.then((spec) => {
  const schemes = spec.components.securitySchemes;
  const foreign = Object.keys(schemes).filter((name) => schemes[name].type === "openIdConnect");
  foreign.forEach((name) => delete schemes[name]);
  spec.security = spec.security.filter((one) => !foreign.some((name) => name in one));
  document.title = spec.info.title;
  SwaggerUIBundle({
    spec,
    dom_id: "#api",
    validatorUrl: null,
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
  });
});
