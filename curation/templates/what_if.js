"use strict";
// What other thresholds would keep: each clip's first reason by the thresholds as they are set, counted and drawn anew.
// The same rules as curation/verdicts.py, on four-byte numbers; rules and their order come with the data.

const whatIf = (() => {
  const data = report.what_if;
  const clips = data.drawn;
  const KEPT = -1;
  const SVG = "http://www.w3.org/2000/svg";
  const GROUPS = ["kept", "rejected_here", "rejected_elsewhere"];
  const GROUP_WORDS = ["kept", "rejected for this", "rejected for another reason"];
  const STEPS = 1000; // of a slider
  const BIG = 1e9; // off, where the command line takes whole numbers only
  const ROOM = { width: 360, height: 170, left: 6, right: 6, top: 26, bottom: 20, least: 1.5, letter: 6.4 };

  // -- numbers

  const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const unpacked = (packed) => {
    if (packed.f4 !== undefined) return new Float32Array(bytesOf(packed.f4).buffer);
    return Float32Array.from(bytesOf(packed.u1), (value) => (value === 255 ? NaN : value));
  };
  const scores = Object.fromEntries(Object.entries(data.scores).map(([name, packed]) => [name, unpacked(packed)]));
  const seconds = unpacked(data.seconds);
  const others = bytesOf(data.others.u1);
  const rules = data.rules;
  const off = (rule) => (rule.off !== null ? rule.off : rule.bound === "min" ? -Infinity : Infinity);
  const valueOr = (value, rule) => (value === null || value === undefined ? off(rule) : Number(value));
  const defaults = rules.map((rule) => valueOr(rule.default, rule));
  const judged = rules.map((rule) => valueOr(rule.value, rule));
  const limits = [...judged];
  const firstRule = new Int16Array(clips);

  /** Sets firstRule: the first rule that each clip breaks, or KEPT, or beyond the rules one of data.others.reasons. */
  function judge() {
    firstRule.fill(KEPT);
    rules.forEach((rule, index) => {
      const values = scores[rule.column];
      if (!values || limits[index] === off(rule)) return;
      const limit = Math.fround(limits[index]);
      if (rule.bound === "min") {
        for (let i = 0; i < clips; i++) if (values[i] < limit && firstRule[i] === KEPT) firstRule[i] = index;
      } else {
        for (let i = 0; i < clips; i++) if (values[i] > limit && firstRule[i] === KEPT) firstRule[i] = index;
      }
    });
    if (data.others.reasons.length)
      for (let i = 0; i < clips; i++) if (others[i] !== 255 && firstRule[i] === KEPT) firstRule[i] = rules.length + others[i];
  }

  /** Clips and seconds by reason, in the order of the rules. */
  function tally() {
    const names = ["kept", ...rules.map((rule) => rule.reason), ...data.others.reasons];
    const [counts, times] = [new Float64Array(names.length), new Float64Array(names.length)];
    for (let i = 0; i < clips; i++) {
      counts[firstRule[i] + 1] += 1;
      times[firstRule[i] + 1] += seconds[i];
    }
    return names.map((reason, i) => ({ reason, clips: counts[i], seconds: times[i] }));
  }

  // -- words

  const scale = clips ? data.found / clips : 1;
  const about = scale > 1 ? "about " : "";
  const count = (n) => String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const clock = (s) => (s < 90 ? `${s.toFixed(1)} s` : s < 5400 ? `${(s / 60).toFixed(1)} min` : `${(s / 3600).toFixed(s < 36e4 ? 1 : 0)} h`);
  const percent = (part, whole) => {
    const share = whole ? (100 * part) / whole : 0;
    return share > 0 && share < 10 ? `${share.toFixed(1)} %` : share > 99.5 && share < 100 ? "> 99 %" : `${Math.round(share)} %`;
  };
  const says = (rule, limit) =>
    rule.kind === "bool" ? rule.column : `${rule.column} ${rule.bound === "min" ? "<" : ">"} ${number(limit)}`;

  // -- charts

  const charts = report.histograms.map((histogram, index) => {
    const packed = data.bins[index];
    const figure = all(".chart").find((each) => each.dataset.column === histogram.column);
    const bits = packed.u2 !== undefined ? new Uint16Array(bytesOf(packed.u2).buffer) : null;
    const here = Uint8Array.from(rules, (rule) => Number(rule.column === histogram.column));
    return { ...histogram, figure, bits, at: bits ? null : bytesOf(packed.u1), here, isSeen: false, isStale: false };
  });

  function countsOf(chart) {
    const bins = chart.edges.length - 1;
    const counts = GROUPS.map(() => new Float64Array(bins));
    for (let i = 0; i < clips; i++) {
      const first = firstRule[i];
      const group = counts[first === KEPT ? 0 : chart.here[first] ? 1 : 2];
      if (!chart.bits) {
        if (chart.at[i] !== 255) group[chart.at[i]] += 1;
      } else for (let bits = chart.bits[i], bin = 0; bits; bits >>= 1, bin++) if (bits & 1) group[bin] += 1;
    }
    return counts;
  }

  const scaled = (chart, value) => (chart.is_log ? Math.log10(value) : value);
  const across = (chart, value) => {
    const [low, high] = [scaled(chart, chart.edges[0]), scaled(chart, chart.edges.at(-1))];
    return (scaled(chart, value) - low) / (high - low);
  };
  const valueAt = (chart, share) => {
    const [low, high] = [scaled(chart, chart.edges[0]), scaled(chart, chart.edges.at(-1))];
    const value = low + share * (high - low);
    return chart.is_log ? 10 ** value : value;
  };
  // A column of whole numbers is rejected from the next one on: its line stands between the two bins.
  const shift = (chart, rule) => (chart.is_integer && rule.bound === "max" ? 1 : 0);

  function svg(tag, attributes, text = "") {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  }

  function draw(chart) {
    chart.isStale = false;
    const counts = countsOf(chart);
    const totals = Array.from(counts[0], (_, bin) => counts[0][bin] + counts[1][bin] + counts[2][bin]);
    const tallest = Math.max(1, ...totals);
    for (const bar of all("[data-bin]", chart.figure)) {
      const bin = Number(bar.dataset.bin);
      const parts = counts.map((of) => of[bin]);
      const words = parts.map((n, group) => n && `${about}${count(n * scale)} ${GROUP_WORDS[group]}`).filter(Boolean).join(", ");
      bar.querySelector("title").textContent = `${bar.dataset.label}: ${words}`;
      for (const rect of all("rect:not(.hover)", bar)) rect.remove();
      (bar.querySelector("svg") ?? bar).append(...(bar.tagName === "TR" ? row(parts, tallest) : column(bar, parts, tallest)));
    }
    drawLines(chart);
  }

  function row(parts, tallest) {
    let filled = 0;
    return parts.flatMap((n, group) => {
      const x = filled;
      filled += (100 * n) / tallest;
      return n ? [svg("rect", { class: GROUPS[group], x: `${x}%`, width: `${(100 * n) / tallest}%`, height: 12 })] : [];
    });
  }

  function column(bar, parts, tallest) {
    const hover = bar.querySelector(".hover");
    let y = ROOM.height - ROOM.bottom;
    return parts.flatMap((n, group) => {
      if (!n) return [];
      const height = Math.max(ROOM.least, ((ROOM.height - ROOM.top - ROOM.bottom) * n) / tallest);
      y -= height;
      const place = { x: hover.getAttribute("x"), width: hover.getAttribute("width"), y, height };
      return [svg("rect", { class: GROUPS[group], ...place })];
    });
  }

  function drawLines(chart) {
    const box = chart.figure.querySelector(":scope > svg");
    if (!box) return;
    for (const old of all(".limit", box)) old.remove();
    let drawn = 0;
    rules.forEach((rule, index) => {
      if (rule.column !== chart.column || limits[index] === off(rule)) return;
      const share = across(chart, limits[index] + shift(chart, rule));
      if (!(share >= 0 && share <= 1)) return;
      const x = ROOM.left + share * (ROOM.width - ROOM.left - ROOM.right);
      const label = `${rule.reason} ${rule.bound === "min" ? "<" : ">"} ${number(limits[index])}`;
      const isRight = x + 4 + label.length * ROOM.letter < ROOM.width;
      const lineRow = drawn++ % 2;
      const text = { x: x + (isRight ? 4 : -4), y: 11 + 11 * lineRow, "text-anchor": isRight ? "start" : "end" };
      box.append(svg("path", { class: "limit", d: `M${x} ${3 + 11 * lineRow}V${ROOM.height - ROOM.bottom}` }));
      box.append(svg("text", { class: "limit", ...text }, label));
    });
  }

  return {
    KEPT, STEPS, BIG, data, scores, rules, limits, judged, defaults, charts, firstRule, seconds, scale, about,
    off, judge, tally, draw, across, valueAt, shift, count, clock, percent, says, svg,
  };
})();
