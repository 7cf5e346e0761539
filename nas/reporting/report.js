// Draws the charts of a report with plotly.js: colours from the stylesheet, in light and dark mode. Without scripts, and
// on paper, the still pictures are shown; also in browsers that cannot unpack gzip.
(async function () {
  "use strict";
  if (!window.DecompressionStream) return;
  const packed = document.getElementById("plotly").textContent;
  const bytes = Uint8Array.from(atob(packed), function (letter) { return letter.charCodeAt(0); });
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const library = document.createElement("script");
  library.textContent = await new Response(unpacked).text();
  document.head.append(library);
  if (!window.Plotly) return;
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function colour(name) {
    return getComputedStyle(root).getPropertyValue(name).trim();
  }

  function draw(element) {
    const chart = JSON.parse(document.getElementById(element.dataset.chart).textContent);
    const ink = colour("--ink"), muted = colour("--muted"), line = colour("--line"), narrow = element.clientWidth < 560;
    for (const trace of chart.data) {
      if (trace.meta !== "ink") continue;
      if (trace.line) trace.line.color = ink;
      if (trace.marker) trace.marker.color = ink;
    }
    const axis = { gridcolor: line, linecolor: muted, tickcolor: muted, zeroline: false, automargin: true };
    const layout = chart.layout;
    layout.xaxis = { ...axis, showgrid: false, ticks: "outside", ...layout.xaxis };
    layout.yaxis = { ...axis, ...layout.yaxis };
    for (const shape of layout.shapes || []) {
      Object.assign(shape, { fillcolor: colour("--soft"), line: { width: 0 }, layer: "below" });
    }
    for (const menu of layout.updatemenus || []) {
      Object.assign(menu, { bgcolor: colour("--soft"), bordercolor: line, font: { color: ink, size: 11 } });
    }
    Object.assign(layout, {
      font: { color: ink, size: 13, family: getComputedStyle(document.body).fontFamily },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: colour("--ground"), bordercolor: muted, font: { color: ink }, align: "left" },
      legend: narrow ? { orientation: "h", y: -0.3 } : { x: 1.02, y: 1 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: muted, activecolor: ink },
      margin: { l: 60, r: 10, t: 50, b: 50 },
      hovermode: "closest",
    });
    const buttons = [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]];
    const options = { responsive: true, displayModeBar: !narrow, displaylogo: false, modeBarButtons: buttons };
    window.Plotly.react(element, chart.data, layout, options);
    if (element.removeAllListeners) element.removeAllListeners("plotly_click");
    element.on("plotly_click", function (event) {
      const label = event.points[0].customdata;
      const target = label && document.getElementById("network-" + label[0] + "-" + label[1]);
      if (target) target.scrollIntoView({ behavior: "smooth" });
    });
  }

  function drawAll() {
    document.querySelectorAll(".live").forEach(draw);
  }

  root.classList.add("scripted");
  drawAll();
  dark.addEventListener("change", drawAll);
})();
