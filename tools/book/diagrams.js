// Draws the diagrams of a page. Mermaid comes with the book, and is asked for only by pages that have
// a diagram; where there is no script, a diagram is its own source.
(() => {
  const sources = [...document.querySelectorAll("code.language-mermaid")];
  if (sources.length === 0) return;

  const figures = sources.map((code) => {
    const figure = document.createElement("div");
    figure.className = "diagram";
    code.parentElement.replaceWith(figure);
    return { figure, source: code.textContent };
  });
  const isDark = () => /\b(ayu|coal|navy)\b/.test(document.documentElement.className);

  let drawnDark;
  async function draw() {
    if (drawnDark === isDark()) return;
    drawnDark = isDark();
    mermaid.initialize({ startOnLoad: false, theme: drawnDark ? "dark" : "default" });
    for (const [number, { figure, source }] of figures.entries()) {
      figure.innerHTML = (await mermaid.render(`diagram-${number}`, source)).svg;
    }
  }

  const script = document.createElement("script");
  script.src = `${path_to_root}mermaid.min.js`;
  script.onload = () => {
    draw();
    new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["class"] });
  };
  document.head.append(script);
})();
