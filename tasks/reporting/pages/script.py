"""What the page runs beside plotly: it places a chart's panels as the width of the page allows."""

DRAW = """
"use strict";
const charts = JSON.parse(document.getElementById("charts").textContent);
const HIGH = 230, BETWEEN = 78, BELOW = 64, LEFT = 62, RIGHT = 12, GAP = 52;
function layoutOf(chart, width) {
  const n = chart.panels.length;
  const most = Math.min(n, chart.columns);
  const columns = chart.share_y ? most : Math.max(1, Math.min(most, Math.floor(width / 250)));
  const rows = Math.ceil(n / columns), inner = width - LEFT - RIGHT;
  const high = rows * HIGH + (rows - 1) * BETWEEN;
  let lines = 1, used = 0;
  for (const length of chart.entries) {
    const wide = 48 + 6.6 * length;
    if (used && used + wide > inner) { lines += 1; used = 0; }
    used += wide;
  }
  const top = chart.panels.some(panel => panel.title) ? 30 : 12;
  const legend = 20 * lines + 8;
  const gap = (chart.share_y ? 14 : GAP) / inner;
  const weights = chart.panels.slice(0, columns).map(panel => panel.weight);
  const total = weights.reduce((a, b) => a + b, 0);
  const layout = {
    width, height: top + high + BELOW + legend,
    margin: {l: LEFT, r: RIGHT, t: top, b: BELOW + legend},
    font: {family: "system-ui, sans-serif", size: 12, color: "#1b1b1b"},
    hovermode: "closest", dragmode: matchMedia("(pointer: fine)").matches ? "zoom" : false,
    hoverlabel: {bgcolor: "#fff", font: {color: "#1b1b1b"}, align: "left"},
    legend: {orientation: "h", x: 0, xanchor: "left", y: -BELOW / high, yanchor: "top"},
    annotations: [],
  };
  chart.panels.forEach((panel, k) => {
    const row = Math.floor(k / columns), column = k % columns, name = k ? k + 1 : "";
    const before = weights.slice(0, column).reduce((a, b) => a + b, 0);
    const room = 1 - gap * (columns - 1);
    const x = [before, before + weights[column]].map(w => w / total * room + gap * column);
    const y = 1 - row * (HIGH + BETWEEN) / high;
    const line = {showline: true, linecolor: "#444", ticks: "outside", gridcolor: "#e4e4e4",
      zeroline: false};
    layout["xaxis" + name] = {...line, ...panel.x, domain: x, anchor: "y" + name};
    layout["yaxis" + name] = {...line, ...panel.y, domain: [Math.max(y - HIGH / high, 0), y],
      anchor: "x" + name, showticklabels: !chart.share_y || !column,
      title: column ? undefined : panel.y.title};
    if (panel.title) layout.annotations.push({text: "<b>" + panel.title + "</b>", x: .5, y: 1,
      xref: "x" + name + " domain", yref: "y" + name + " domain", yanchor: "bottom",
      showarrow: false});
  });
  return layout;
}
for (const box of document.querySelectorAll("[data-chart]")) {
  const chart = charts[box.dataset.chart], canvas = box.querySelector(".canvas");
  let width = 0;
  const draw = () => {
    if (!box.clientWidth || box.clientWidth === width) return;
    width = box.clientWidth;
    Plotly.newPlot(canvas, chart.traces, layoutOf(chart, width), {displayModeBar: false});
  };
  box.classList.add("drawn");
  draw();
  addEventListener("resize", draw);
}
"""
