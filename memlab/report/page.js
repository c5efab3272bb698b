/* Draws the report's charts from the packed series, and filters the decisions.
   Without it the page shows the same charts as stills, and every table. */
"use strict";
(function () {
  const page = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const MIB = 1048576;
  const ABSENT = -2147483648;
  root.classList.add("scripted");

  // The packed series: base64, deflate, int32 differences modulo 2**32.

  function bytesOf(text) {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return bytes;
  }

  async function inflated(bytes) {
    if (typeof DecompressionStream === "undefined") return inflate(bytes.subarray(2));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // RFC 1951, for browsers older than 2023: small and slow, and only used there.
  function inflate(input) {
    const out = new Uint8Array(page.series.size);
    let at = 0, bit = 0, pos = 0;
    const bits = (n) => {
      let value = 0;
      for (let i = 0; i < n; i++) {
        value |= ((input[pos] >> bit) & 1) << i;
        if (++bit === 8) { bit = 0; pos++; }
      }
      return value;
    };
    const table = (lengths) => {
      const counts = new Uint16Array(16), first = new Uint16Array(17), symbols = [];
      for (const n of lengths) if (n) counts[n]++;
      for (let n = 1; n < 16; n++) first[n + 1] = first[n] + counts[n];
      const next = first.slice();
      lengths.forEach((n, symbol) => { if (n) symbols[next[n]++] = symbol; });
      return { counts, symbols };
    };
    const symbol = (t) => {
      let code = 0, begin = 0, index = 0;
      for (let n = 1; n < 16; n++) {
        code |= bits(1);
        const count = t.counts[n];
        if (code - count < begin) return t.symbols[index + code - begin];
        index += count;
        begin = (begin + count) << 1;
        code <<= 1;
      }
      throw new Error("packed series are damaged");
    };
    const BASE = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
    const MORE = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
    const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    const trees = () => {
      const literals = bits(5) + 257, distances = bits(5) + 1, codes = bits(4) + 4;
      const own = new Array(19).fill(0);
      for (let i = 0; i < codes; i++) own[ORDER[i]] = bits(3);
      const coded = table(own), lengths = [];
      while (lengths.length < literals + distances) {
        const s = symbol(coded);
        if (s < 16) { lengths.push(s); continue; }
        const value = s === 16 ? lengths[lengths.length - 1] : 0;
        let times = s === 16 ? 3 + bits(2) : s === 17 ? 3 + bits(3) : 11 + bits(7);
        while (times--) lengths.push(value);
      }
      return [table(lengths.slice(0, literals)), table(lengths.slice(literals))];
    };
    const fixed = () => {
      const lengths = [];
      for (let i = 0; i < 288; i++) lengths.push(i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8);
      return [table(lengths), table(new Array(30).fill(5))];
    };
    for (let last = 0; !last;) {
      last = bits(1);
      const kind = bits(2);
      if (kind === 0) {
        if (bit) { bit = 0; pos++; }
        const length = input[pos] | (input[pos + 1] << 8);
        out.set(input.subarray(pos + 4, pos + 4 + length), at);
        pos += 4 + length;
        at += length;
        continue;
      }
      const [literal, distance] = kind === 1 ? fixed() : trees();
      for (let s; (s = symbol(literal)) !== 256;) {
        if (s < 256) { out[at++] = s; continue; }
        let length = BASE[s - 257] + bits(MORE[s - 257]);
        const d = symbol(distance), more = d < 4 ? 0 : (d >> 1) - 1;
        const back = (d < 4 ? d : (2 + (d & 1)) << more) + 1 + bits(more);
        while (length--) { out[at] = out[at - back]; at++; }
      }
    }
    return out;
  }

  function seriesOf(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = 0;
    return page.series.lengths.map((length, i) => {
      const step = page.series.steps[i], values = new Array(length);
      for (let j = 0, value = 0; j < length; j++, at += 4) {
        value = (value + view.getInt32(at, true)) | 0;
        values[j] = value === ABSENT ? null : value * step;
      }
      return values;
    });
  }

  // Figures at the pointer, in the words of the tables.

  function seconds(time) {
    const text = time < 60 ? time.toFixed(1) + " s" : "";
    if (text) return text;
    const rest = Math.round(time % 60);
    return Math.floor(time / 60) + "m" + String(rest).padStart(2, "0") + "s";
  }

  function figure(value, unit) {
    if (value === null || value === undefined) return "–";
    if (unit === "bytes" || unit === "bytes_per_second") return (value / MIB).toFixed(1);
    if (unit === "fraction") return (value * 100).toFixed(1) + " %";
    if (unit === "seconds") {
      if (value >= 1) return value.toFixed(1) + " s";
      return value >= 1e-3 ? (value * 1e3).toFixed(1) + " ms" : (value * 1e6).toFixed(1) + " µs";
    }
    return Math.round(value).toLocaleString("en").replace(/,/g, "\u202f");
  }

  // Charts.

  const plots = [];
  const pointer = document.getElementById("pointer");
  let zoom = [0, page.end], zooming = false;

  const paint = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();

  function stack(areas, series) {
    const edges = areas.map((area) => series[area.y].slice());
    for (let i = 0; areas.length && i < edges[0].length; i++) {
      let sum = 0;
      const hole = edges.some((edge) => edge[i] === null);
      for (const edge of edges) edge[i] = hole ? null : (sum += Math.max(0, edge[i]));
    }
    return edges;
  }

  function marksOf(chart) {
    return page.marks.filter((mark) => !chart.vm || !mark.vm || mark.vm === chart.vm);
  }

  function drawWindow(u) {
    const [from, until] = page.window.map((t) => u.valToPos(t, "x", true));
    const { left, top, width, height } = u.bbox;
    const begin = Math.max(left, from), end = Math.min(left + width, until);
    if (end <= begin) return;
    u.ctx.fillStyle = paint("band");
    u.ctx.fillRect(begin, top, end - begin, height);
  }

  function drawMarks(u, chart, wide) {
    const { left, top, width, height } = u.bbox, ratio = devicePixelRatio;
    const ctx = u.ctx;
    ctx.save();
    const [from, until] = page.window.map((t) => Math.min(left + width, Math.max(left, u.valToPos(t, "x", true))));
    ctx.fillStyle = paint("accent");
    ctx.fillRect(from, top - 2 * ratio, until - from, 2.5 * ratio);
    // Marks that stand too close for their numbers share one: "1–4".
    const flags = [];
    for (const mark of marksOf(chart)) {
      const x = Math.round(u.valToPos(mark.t, "x", true));
      if (x < left || x > left + width) continue;
      if (mark.paint) {
        ctx.fillStyle = paint(mark.paint);
        ctx.fillRect(x - ratio, top + height + ratio, 2 * ratio, 6 * ratio);
        continue;
      }
      ctx.strokeStyle = paint(mark.bad ? "bad" : "ink");
      ctx.globalAlpha = mark.bad ? 1 : 0.45;
      ctx.lineWidth = ratio;
      ctx.setLineDash([2 * ratio, 3 * ratio]);
      ctx.beginPath();
      ctx.moveTo(x, top);
      ctx.lineTo(x, top + height);
      ctx.stroke();
      ctx.globalAlpha = 1;
      const last = flags[flags.length - 1];
      if (last && x - last.x < 30 * ratio) { last.until = mark.n; last.bad = last.bad || mark.bad; }
      else flags.push({ x, from: mark.n, until: mark.n, bad: mark.bad });
    }
    ctx.setLineDash([]);
    ctx.font = 600 + " " + 10 * ratio + "px sans-serif";
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    for (const flag of wide ? flags : []) {
      const words = flag.from === flag.until ? String(flag.from) : flag.from + "–" + flag.until;
      const half = Math.max(8 * ratio, ctx.measureText(words).width / 2 + 5 * ratio);
      ctx.fillStyle = paint(flag.bad ? "bad" : "ink");
      ctx.beginPath();
      ctx.roundRect(flag.x - half, top - 20 * ratio, 2 * half, 16 * ratio, 8 * ratio);
      ctx.fill();
      ctx.fillStyle = paint("page");
      ctx.fillText(words, flag.x, top - 11.5 * ratio);
    }
    ctx.restore();
  }

  function showAt(figureElement, chart, series, index) {
    for (const slot of figureElement.querySelectorAll("b[data-layer]")) {
      const layer = chart.areas.concat(chart.lines)[Number(slot.dataset.layer)];
      slot.textContent = index === null ? slot.dataset.rest : figure(series[layer.y][index], chart.unit);
    }
  }

  function zoomTo(min, max) {
    if (zooming) return;
    zooming = true;
    zoom = [min, max];
    for (const plot of plots) plot.setScale("x", { min, max });
    zooming = false;
  }

  function draw(element, series) {
    const chart = page.charts[Number(element.dataset.chart)];
    const holder = element.querySelector(".plot"), wide = element.classList.contains("wide");
    const areas = chart.areas.slice().reverse(), edges = stack(chart.areas, series).reverse();
    const size = () => ({ width: holder.clientWidth, height: Number(element.dataset.height) });
    const shown = { points: { show: false }, spanGaps: false };
    const text = { stroke: () => paint("faint"), font: "11px sans-serif", ticks: { show: false } };
    const options = {
      ...size(),
      padding: [wide ? 24 : 10, 14, 0, 0],
      legend: { show: false },
      cursor: {
        y: false,
        points: { show: false },
        sync: { key: "memlab" },
        drag: { x: true, y: false },
        bind: { dblclick: () => () => { zoomTo(0, page.end); return null; } },
      },
      scales: {
        x: { time: false, range: (u, min, max) => [min, max] },
        y: { range: () => [chart.bottom, chart.top] },
      },
      axes: [
        { ...text, grid: { show: false }, size: 28, gap: 9, space: 64, values: (u, ticks) => ticks.map((t) => t + " s") },
        { ...text, size: 46, gap: 6, grid: { stroke: () => paint("grid"), width: 1 }, splits: () => chart.ticks, values: () => chart.texts },
      ],
      series: [
        {},
        ...areas.map((area) => ({ ...shown, width: 0, fill: () => paint(area.paint) })),
        ...chart.lines.map((line) => ({
          ...shown, stroke: () => paint(line.paint), width: line.paint === "budget" ? 2 : 1.5, dash: line.paint === "budget" ? [6, 4] : undefined,
        })),
      ],
      hooks: {
        drawClear: [drawWindow],
        draw: [(u) => drawMarks(u, chart, wide)],
        setCursor: [(u) => {
          const index = u.cursor.idx === undefined ? null : u.cursor.idx;
          showAt(element, chart, series, index);
          if (index === null) pointer.classList.remove("on");
          else {
            pointer.textContent = "figures at " + seconds(u.data[0][index]);
            pointer.classList.add("on");
          }
        }],
        setScale: [(u, key) => { if (key === "x" && u.status === 1) zoomTo(u.scales.x.min, u.scales.x.max); }],
      },
    };
    const data = [series[chart.x], ...edges, ...chart.lines.map((line) => series[line.y])];
    const plot = new uPlot(options, data, holder);
    plot.setScale("x", { min: zoom[0], max: zoom[1] });
    holder.classList.add("live");
    plots.push(plot);
    new ResizeObserver(() => { if (holder.clientWidth) plot.setSize(size()); }).observe(holder);
  }

  function drawWhenSeen(series) {
    const elements = document.querySelectorAll("figure[data-chart]");
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        seen.unobserve(entry.target);
        draw(entry.target, series);
      }
    }, { rootMargin: "1200px 0px" });
    elements.forEach((element) => seen.observe(element));
  }

  // Decisions: show the rows that match the mechanism, the VM and the words.

  function filterDecisions() {
    const box = document.getElementById("filters");
    if (!box) return;
    const rows = Array.from(document.querySelectorAll("#actions tbody tr"));
    const buttons = Array.from(box.querySelectorAll("button")), words = box.querySelector("input");
    const vm = box.querySelector("select"), shown = box.querySelector("output");
    const apply = () => {
      const on = buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.mechanism);
      const want = words.value.toLowerCase();
      let count = 0;
      for (const row of rows) {
        const fits = (!on.length || on.includes(row.dataset.mechanism)) && (!vm.value || row.dataset.vm === vm.value)
          && (!want || row.textContent.toLowerCase().includes(want));
        row.hidden = !fits;
        count += fits;
      }
      shown.textContent = count + " of " + rows.length;
    };
    for (const button of buttons) {
      button.addEventListener("click", () => {
        button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
        apply();
      });
    }
    words.addEventListener("input", apply);
    vm.addEventListener("change", apply);
    apply();
  }

  function themeButton() {
    const button = document.getElementById("theme");
    const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    const redraw = () => plots.forEach((plot) => plot.redraw(false));
    button.hidden = false;
    button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; redraw(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  }

  filterDecisions();
  themeButton();
  inflated(bytesOf(page.series.text)).then(seriesOf).then(drawWhenSeen).then(() => { root.dataset.ready = "yes"; });
})();
