"use strict";

// Plotly's script comes packed; gzip has been known to browsers since 2023.
async function unpacked() {
  const hint = document.getElementById("hint");
  hint.textContent = window.DecompressionStream ? "Drawing ..." : "This page needs a browser of 2023 or newer.";
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const script = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  (0, eval)(await new Response(script).text());
}

// Draws the numbers in the page: a surface or contours (a curve for a line) with paths, on a plain or log scale, and
// beside it the paths' own losses by time.
(async () => {
  await unpacked();
  const data = JSON.parse(document.getElementById("numbers").textContent);
  const by = (id) => document.getElementById(id);
  const plot = by("plot");
  const losses = by("losses");
  const flat = data.grid.length === 1;
  const narrow = () => window.innerWidth <= 640;
  const back = narrow() ? 1.75 : 1; // a narrow screen takes more distance
  const [right, far] = data.corner || [1, -1];
  const solids = Boolean(document.createElement("canvas").getContext("webgl")); // whether the browser can draw in 3-D
  const state = {
    view: flat ? "line" : data.contours || !solids ? "contour" : "surface",
    log: data.log,
    camera: { eye: { x: 0.98 * back * right, y: 1.07 * back * far, z: 1.15 * back }, center: { x: 0, y: 0, z: -0.14 } },
    frame: 0,
  };
  const color = (i) => data.colors[i % data.colors.length];
  const dash = (i) => (i < data.colors.length ? "solid" : "dash");
  const FONT = { family: getComputedStyle(document.body).fontFamily, size: 13, color: "#323f4b" };
  // Buttons by name, since plotly's own set has one that sends the chart to a server.
  const BUTTONS = { surface: ["toImage", "resetCameraDefault3d"], contour: ["toImage", "zoom2d", "pan2d", "resetScale2d"] };
  const CONFIG = Object.fromEntries(Object.entries({ ...BUTTONS, line: BUTTONS.contour }).map(([view, buttons]) => [view, {
    displayModeBar: !(narrow() && data.paths.length), // its buttons would lie on the legend
    responsive: true, displaylogo: false, scrollZoom: true, plotlyServerURL: "", modeBarButtons: [buttons],
    toImageButtonOptions: { filename: "landscape", scale: 2 },
  }]));

  // ---- numbers -----------------------------------------------------------------------------------------------------

  const number = (value) => {
    if (value === null || value === undefined) return "not finite";
    const size = Math.abs(value);
    return size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  };
  const height = (loss) => (loss === null ? null : state.log ? Math.log10(Math.max(loss, data.floor)) : loss);
  const map = (values, f) => values.map((row) => (Array.isArray(row) ? row.map(f) : f(row)));
  const all = data.losses.flat().filter((loss) => loss !== null);
  const span = () => {
    const heights = all.map(height);
    const low = heights.reduce((a, b) => Math.min(a, b), Infinity);
    const high = heights.reduce((a, b) => Math.max(a, b), -Infinity);
    return [low, high > low ? high : low + 1];
  };

  // Heights with the losses written at them: round ones, on the log scale 1, 3, 10 or only powers of ten.
  function ticks() {
    const [low, high] = span();
    const found = [];
    if (state.log) {
      const factors = high - low < 1.2 ? [1, 2, 3, 5, 7] : high - low < 3 ? [1, 3] : [1];
      const every = Math.ceil((high - low) / 8);
      for (let power = Math.floor(low); power <= high; power += 1) {
        if (power % every === 0) found.push(...factors.map((factor) => power + Math.log10(factor)));
      }
    } else {
      const rough = (high - low) / 5;
      const power = 10 ** Math.floor(Math.log10(rough));
      const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.8);
      for (let i = Math.ceil(low / step); i * step <= high; i += 1) found.push(i * step);
    }
    const tickvals = found.filter((at) => at >= low - 1e-9 && at <= high + 1e-9);
    return { tickvals, ticktext: tickvals.map((at) => number(state.log ? 10 ** at : at)) };
  }

  const texts = data.losses.map((row, i) => {
    const word = (loss, share) =>
      `loss ${number(loss)}` + (share === null || share === undefined ? "" : `<br>accuracy ${(100 * share).toFixed(1)} %`);
    const shares = data.accuracies && data.accuracies[i];
    return Array.isArray(row) ? row.map((loss, j) => word(loss, shares && shares[j])) : word(row, shares);
  });

  // ---- time --------------------------------------------------------------------------------------------------------

  // The moments that the slider goes through; each path is drawn as far as it has come by then.
  const moments = [...new Set(data.paths.flatMap((path) => path.line.times))].sort((a, b) => a - b);
  const shown = data.moment === null ? moments.length : moments.filter((time) => time <= data.moment).length;
  state.frame = Math.max(0, shown - 1);
  const now = () => (moments.length ? moments[state.frame] : 0);
  const reached = (part) => part.times.filter((time) => time <= now() + 1e-9).length;

  // ---- traces ------------------------------------------------------------------------------------------------------

  // Points of a path on the surface, a little above it, so that they are not hidden by it.
  function coordinates(part, from, to, above) {
    const x = part.places[0].slice(from, to);
    if (state.view === "contour") return { x, y: part.places[1].slice(from, to) };
    const on = (state.log ? part.log_height : part.height).slice(from, to);
    if (flat) return { x, y: on };
    const [low, high] = span();
    return { x, y: part.places[1].slice(from, to), z: on.map((h) => (h === null ? null : h + above * (high - low))) };
  }

  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
  function words(path, to) {
    const { times, losses, distances } = path.points;
    return times.slice(0, to).map((time, i) => {
      const off = distances ? `<br>${number(distances[i])} from the ${flat ? "line" : "plane"}` : "";
      return `<b>${escaped(path.name)}</b><br>${data.time} ${number(time)}<br>loss ${number(losses[i])}${off}`;
    });
  }

  // For each path its line, its points, and where it is now.
  function pathTraces() {
    const solid = state.view === "surface";
    return data.paths.flatMap((path, i) => {
      const common = { type: solid ? "scatter3d" : "scatter", name: escaped(path.label), legendgroup: `${i}` };
      const [line, points] = [reached(path.line), reached(path.points)];
      const size = path.points.times.length > 60 ? (solid ? 1.5 : 2) : solid ? 3 : 5;
      return [
        {
          ...common, ...coordinates(path.line, 0, line, 0.018), mode: "lines", hoverinfo: "skip", connectgaps: false,
          line: { color: color(i), dash: dash(i), width: solid ? 5 : 2.5 },
        },
        {
          ...common, ...coordinates(path.points, 0, points, 0.02), text: words(path, points), mode: "markers",
          showlegend: false, hovertemplate: "%{text}<extra></extra>", marker: { color: color(i), size },
        },
        {
          ...common, ...coordinates(path.line, Math.max(0, line - 1), line, 0.03), mode: "markers", hoverinfo: "skip",
          showlegend: false, marker: { color: color(i), size: solid ? 6 : 11, line: { color: "#fff", width: solid ? 1 : 1.5 } },
        },
      ];
    });
  }

  function lossTrace() {
    const [low, high] = span();
    const z = map(data.losses, height);
    const [s, t] = [data.symbols[1], data.symbols[0]];
    if (flat) {
      return {
        type: "scatter", mode: "lines+markers", x: data.grid[0], y: z, text: texts, showlegend: false,
        line: { color: data.curve, width: 2.5 }, marker: { size: 4 },
        hovertemplate: `%{text}<br>${t} = %{x:.4~g}<extra></extra>`,
      };
    }
    const common = {
      x: data.grid[0], y: data.grid[1], z, text: texts, colorscale: data.scale, name: "loss",
      hovertemplate: `%{text}<br>${t} = %{x:.4~g}, ${s} = %{y:.4~g}<extra></extra>`,
      colorbar: {
        title: { text: "loss", side: "top" }, thickness: 14, len: narrow() ? 0.6 : 0.7, x: 1.0, outlinewidth: 0, ...ticks(),
      },
      showscale: !narrow(),
    };
    if (state.view === "contour") {
      const step = (high - low) / 24;
      return {
        ...common, type: "contour", zmin: low, zmax: high, line: { color: "rgba(31,41,51,0.25)", width: 0.8 },
        contours: { coloring: "heatmap", start: low + step, end: high, size: step },
      };
    }
    const lines = (axis) => ({ show: true, color: "rgba(31,41,51,0.28)", width: 1, highlight: false, ...axis });
    const mesh = (values) => ({ start: values[0], end: values[values.length - 1], size: (values[values.length - 1] - values[0]) / 24 });
    return {
      ...common, type: "surface", cmin: low, cmax: high,
      contours: { x: lines(mesh(data.grid[0])), y: lines(mesh(data.grid[1])), z: { highlight: true, highlightcolor: "#323f4b" } },
      lighting: { ambient: 0.62, diffuse: 0.45, specular: 0.08, roughness: 0.9 }, lightposition: { x: -200, y: 0, z: 4000 },
    };
  }

  function layout() {
    const legend = { orientation: "h", x: 0, y: 1, yanchor: "bottom", font: FONT, bgcolor: "rgba(255,255,255,0)" };
    const common = {
      font: FONT, paper_bgcolor: "#fff", plot_bgcolor: "#fff", legend, showlegend: data.paths.length > 0, hovermode: "closest",
      margin: { l: 8, r: 8, t: data.paths.length > 4 && narrow() ? 70 : 34, b: 8 },
      hoverlabel: { bgcolor: "#fff", bordercolor: "#9aa5b1", font: { ...FONT, color: "#1f2933" }, align: "left" },
    };
    const grid = { gridcolor: "#e4e7eb", zeroline: false };
    if (flat || state.view === "contour") {
      const y = flat ? { title: { text: "loss" }, ...ticks() } : { title: { text: data.labels[1] } };
      return {
        ...common, dragmode: narrow() ? "pan" : "zoom", margin: { ...common.margin, l: 64, b: 52 },
        xaxis: { ...grid, title: { text: data.labels[0] }, ...inner(0) }, yaxis: { ...grid, ...y, ...(flat ? {} : inner(1)) },
      };
    }
    const title = (text) => ({ title: { text, font: { ...FONT, size: narrow() ? 11 : 13 } }, tickfont: { ...FONT, size: 11, color: "#7b8794" } });
    const side = { showbackground: false, gridcolor: "#dfe3e8", zeroline: false, showspikes: false, nticks: 6 };
    return {
      ...common, dragmode: "turntable",
      scene: {
        camera: state.camera, aspectmode: "manual", aspectratio: { x: 1, y: 1, z: 0.5 },
        xaxis: { ...side, ...title(data.labels[0]) }, yaxis: { ...side, ...title(data.labels[1]) },
        zaxis: { ...side, ...title("loss"), ...ticks() },
      },
    };
  }
  const inner = (i) => ({ range: [data.grid[i][0], data.grid[i][data.grid[i].length - 1]] });

  // The paths' own losses, from first to last, with a line where the slider is.
  function drawLosses() {
    const traces = data.paths.map((path, i) => ({
      type: "scatter", mode: "lines", x: path.points.times, y: path.points.losses, line: { color: color(i), dash: dash(i), width: 2 },
      name: `${escaped(path.name)}: ${number(path.points.losses[path.points.losses.length - 1])}`,
      hovertemplate: `<b>${escaped(path.name)}</b><br>${data.time} %{x:.4~g}<br>loss %{y:.4~g}<extra></extra>`,
    }));
    const grid = { gridcolor: "#e4e7eb", zeroline: false };
    const range = data.decades && data.decades.map((loss, i) => Math.log10(loss) + (i ? 0.2 : -0.2));
    const legend = { x: 0, y: -0.2, yanchor: "top", font: FONT, title: { text: "loss at the end", font: FONT } };
    return Plotly.newPlot(losses, traces, {
      font: FONT, paper_bgcolor: "#fff", plot_bgcolor: "#fff", hovermode: "closest", showlegend: true, legend,
      title: { text: `loss by ${data.time}`, font: { ...FONT, size: 14 }, x: 0.02, xanchor: "left", y: 0.98, yanchor: "top" },
      margin: { l: 52, r: 16, t: 34, b: 44 }, shapes: [marker()],
      xaxis: { ...grid, title: { text: data.time, font: FONT, standoff: 4 } },
      yaxis: { ...grid, ...(range ? { type: "log", range, dtick: Math.ceil((range[1] - range[0]) / 8), exponentformat: "power" } : {}) },
    }, CONFIG.line);
  }
  const marker = () => ({ type: "line", x0: now(), x1: now(), y0: 0, y1: 1, yref: "paper", line: { color: "#616e7c", width: 1, dash: "dot" } });

  // ---- drawing -----------------------------------------------------------------------------------------------------

  function draw() {
    // Where the reader has turned it. Asked of the scene itself: the layout hears of it only after the pointer rests.
    const scene = plot._fullLayout && plot._fullLayout.scene && plot._fullLayout.scene._scene;
    if (scene) state.camera = scene.getCamera();
    for (const view of ["surface", "contour"]) by(view).setAttribute("aria-pressed", String(state.view === view));
    by("log").setAttribute("aria-pressed", String(state.log));
    by("hint").textContent = flat
      ? "Point at the curve for values."
      : state.view === "surface" ? "Drag to turn, scroll or pinch to zoom, point for values."
        : `${narrow() ? "Drag to move, pinch" : "Drag"} to zoom in, double-click to zoom out, point for values.`;
    tell();
    return Plotly.react(plot, [lossTrace(), ...pathTraces()], layout(), CONFIG[state.view]);
  }

  function tell() {
    by("time").value = state.frame;
    const time = data.time === "step" ? Math.floor(now()) : now().toFixed(2);
    by("now").textContent = `${data.time} ${time}`;
  }

  function move(frame) {
    state.frame = frame;
    tell();
    Plotly.relayout(losses, { shapes: [marker()] });
    const traces = pathTraces();
    const update = { x: [], y: [], text: [] };
    if (state.view === "surface") update.z = [];
    for (const trace of traces) for (const key of Object.keys(update)) update[key].push(trace[key] || "");
    return Plotly.restyle(plot, update, traces.map((_, i) => i + 1));
  }

  let playing = null;
  function stop() {
    clearTimeout(playing);
    playing = null;
    by("play").textContent = "▶";
    by("play").setAttribute("aria-label", "Play");
  }
  function play() {
    if (playing !== null) return stop();
    by("play").textContent = "❚❚";
    by("play").setAttribute("aria-label", "Pause");
    const last = moments.length - 1;
    const seconds = Math.min(12, Math.max(4, last * 0.1));
    const from = state.frame >= last ? 0 : state.frame;
    const start = performance.now();
    const tick = async () => {
      const frame = Math.min(last, from + Math.round(((performance.now() - start) / 1000 / seconds) * last));
      if (frame !== state.frame) await move(frame);
      if (playing === null) return;
      if (frame >= last) return stop();
      playing = setTimeout(tick, 30);
    };
    playing = setTimeout(tick, 0);
  }

  losses.hidden = moments.length < 2;
  by("views").hidden = flat;
  by("surface").disabled = !solids;
  if (!solids) by("surface").title = "3-D needs WebGL, which this browser does not have";
  by("log").hidden = data.floor === null;
  by("player").hidden = moments.length < 2;
  by("time").max = Math.max(0, moments.length - 1);
  for (const view of ["surface", "contour"]) by(view).addEventListener("click", () => { stop(); state.view = view; draw(); });
  by("log").addEventListener("click", () => { state.log = !state.log; draw(); });
  by("play").addEventListener("click", play);
  by("time").addEventListener("input", (event) => { stop(); move(Number(event.target.value)); });
  if (!losses.hidden) drawLosses();
  draw().then(() => document.body.setAttribute("data-drawn", "true"));
})();
