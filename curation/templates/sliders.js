"use strict";
// The controls of what_if.js: sliders below the charts, the menu of presets, the funnel, and the command to run.

(() => {
  const { rules, limits, charts, data, off } = whatIf;
  const inputs = rules.map(() => []);
  const make = (tag, properties) => Object.assign(document.createElement(tag), properties);
  const found = whatIf.scale * data.drawn;

  // -- a slider and a field for each threshold

  function addControls(chart) {
    const own = rules.map((rule, index) => [rule, index]).filter(([rule]) => rule.column === chart.column);
    if (!own.length || !whatIf.scores[chart.column]) return;
    const panel = make("div", { className: "sliders" });
    const track = make("div", { className: "track" });
    for (const [rule, index] of own) {
      const label = make("label", { textContent: rule.threshold + " " });
      if (rule.kind === "bool") {
        const box = make("input", { type: "checkbox" });
        box.addEventListener("input", () => set(index, box.checked ? 1 : 0));
        inputs[index].push(() => (box.checked = limits[index] === 1));
        label.prepend(box, " ");
      } else {
        track.append(slider(chart, rule, index));
        label.append(field(rule, index));
      }
      panel.append(label);
    }
    if (track.childElementCount) panel.prepend(track);
    chart.figure.querySelector(":scope > svg, :scope > table").after(panel);
  }

  function slider(chart, rule, index) {
    const range = make("input", { type: "range", min: 0, max: whatIf.STEPS, step: 1, className: rule.bound });
    range.setAttribute("aria-label", rule.threshold);
    const end = rule.bound === "min" ? 0 : whatIf.STEPS;
    range.addEventListener("input", () => {
      const at = Number(range.value);
      set(index, at === end ? off(rule) : rounded(chart, rule, at / whatIf.STEPS), range);
    });
    inputs[index].push((source) => {
      if (source === range) return;
      const share = limits[index] === off(rule) ? end / whatIf.STEPS : whatIf.across(chart, limits[index] + whatIf.shift(chart, rule));
      range.value = Number.isFinite(share) ? Math.round(Math.min(1, Math.max(0, share)) * whatIf.STEPS) : end;
    });
    return range;
  }

  // Three digits that matter, never beyond what the threshold can be.
  function rounded(chart, rule, share) {
    const value = whatIf.valueAt(chart, share) - whatIf.shift(chart, rule);
    const round = rule.kind === "int" ? Math.round(value) : Number(value.toPrecision(3));
    return Math.min(rule.most ?? Infinity, Math.max(rule.least ?? -Infinity, round));
  }

  function field(rule, index) {
    const entry = make("input", { type: "number", step: rule.kind === "int" ? 1 : "any", placeholder: "off" });
    entry.setAttribute("aria-label", `${rule.threshold}, exact`);
    if (rule.least !== null) entry.min = rule.least;
    if (rule.most !== null) entry.max = rule.most;
    entry.addEventListener("input", () => {
      if (entry.validity.badInput) return;
      const value = entry.value === "" ? off(rule) : Number(entry.value);
      if (value >= (rule.least ?? -Infinity) && value <= (rule.most ?? Infinity)) set(index, value, entry);
    });
    inputs[index].push((source) => {
      if (source !== entry) entry.value = limits[index] === off(rule) ? "" : Number(limits[index].toPrecision(6));
    });
    return entry;
  }

  // -- what follows from a change

  let isWaiting = false;

  function set(index, value, source) {
    limits[index] = value;
    const twin = rules.findIndex((other, at) => at !== index && other.column === rules[index].column);
    if (twin >= 0 && (rules[index].bound === "min" ? value > limits[twin] : value < limits[twin])) limits[twin] = value;
    for (const at of [index, twin]) if (at >= 0) for (const show of inputs[at]) show(source);
    later();
  }

  function later() {
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(update);
  }

  function update() {
    isWaiting = false;
    for (const note of all(".off-axis")) note.remove(); // the fields say it
    whatIf.judge();
    showOutcome();
    for (const chart of charts) {
      chart.isStale = true;
      if (chart.isSeen) whatIf.draw(chart);
    }
  }

  function showOutcome() {
    const reasons = whatIf.tally();
    const [kept] = reasons;
    const total = reasons.reduce((sum, each) => sum + each.seconds, 0);
    const { about, scale, count, clock } = whatIf;
    byId("would-keep").textContent = `${about}${count(kept.clips * scale)} of ${count(found)} clips kept`;
    byId("would-keep-time").textContent =
      `${about}${clock(kept.seconds * scale)} of ${clock(total * scale)}, ${whatIf.percent(kept.seconds, total)}`;
    const before = report.outcomes.kept?.count ?? 0;
    const change = Math.round(kept.clips * scale) - before;
    byId("would-change").textContent = change ? `${change > 0 ? "+" : "−"}${count(Math.abs(change))} clips` : "";
    const rows = reasons.map((each, index) => [each, rules[index - 1], limits[index - 1], total]);
    const falls = rows.slice(1).filter(([each]) => each.clips);
    byId("first-reasons").tBodies[0].replaceChildren(...[...falls, rows[0]].map(funnelRow));
    const idle = rows.slice(1).filter(([each, rule, limit]) => !each.clips && rule && limit !== off(rule) && whatIf.scores[rule.column]);
    const fixed = falls.filter(([, rule]) => !rule).map(([each]) => each.reason);
    byId("idle").textContent = [
      idle.length ? `Nothing more falls for ${idle.map(([, rule, limit]) => whatIf.says(rule, limit)).join(", ")}.` : "",
      fixed.length ? `No threshold changes ${fixed.join(", ")} here; the command settles them anew.` : "",
    ].join(" ");
    byId("command").textContent = command();
  }

  function funnelRow([each, rule, limit, total]) {
    const kind = each.reason === "kept" ? "kept" : "rejected";
    const row = make("tr", { className: kind });
    row.dataset.reason = each.reason;
    const { about, scale, count, clock } = whatIf;
    const bar = make("td", { className: "bar" });
    const picture = whatIf.svg("svg", { width: "100%", height: 14, "aria-hidden": "true" });
    picture.append(whatIf.svg("rect", { class: kind, width: `${total ? (100 * each.seconds) / total : 0}%`, height: 14, rx: 2 }));
    bar.append(picture);
    const says = make("small", { textContent: rule ? ` ${whatIf.says(rule, limit)}` : "" });
    const name = make("th", { textContent: each.reason, scope: "row" });
    name.append(says);
    row.append(name, bar, ...[about + count(each.clips * scale), clock(each.seconds * scale), whatIf.percent(each.seconds, total)].map(
      (text) => make("td", { textContent: text, className: "n" })));
    return row;
  }

  // -- presets, and the command

  const byId = (id) => document.getElementById(id);
  const preset = () => data.presets.find((each) => each.name === byId("preset").value);

  function limitsOf(chosen) {
    if (!chosen && byId("preset").value === "") return whatIf.judged;
    return rules.map((rule, index) => chosen?.values[rule.threshold] ?? whatIf.defaults[index]);
  }

  function usePreset() {
    limitsOf(preset()).forEach((value, index) => (limits[index] = value));
    for (const shows of inputs) for (const show of shows) show();
    const chosen = preset();
    byId("about-preset").hidden = !chosen;
    byId("preset-source").textContent = chosen ? `Source: ${chosen.source}. What it does not speak of stays at the default. Not applied:` : "";
    const unmeasured = rules.filter((rule) => chosen && rule.threshold in chosen.values && !whatIf.scores[rule.column]);
    const lines = [...(chosen?.not_applied ?? []), ...unmeasured.map((rule) => `${rule.threshold}: no clip has ${rule.column}`)];
    byId("not-applied").replaceChildren(...lines.map((line) => make("li", { textContent: line })));
    later();
  }

  const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

  function command() {
    const chosen = preset();
    const parts = ["python -m jobs.verdict --store", quoted(report.store)];
    if (chosen) parts.push("--preset", chosen.name);
    rules.forEach((rule, index) => {
      const base = chosen?.values[rule.threshold] ?? whatIf.defaults[index];
      if (limits[index] === base) return;
      const name = rule.threshold.replaceAll("_", "-");
      if (rule.kind === "bool") parts.push(limits[index] === 1 ? `--${name}` : `--no-${name}`);
      else parts.push(`--${name}=${argument(rule, limits[index])}`);
    });
    return parts.join(" ");
  }

  function argument(rule, value) {
    if (Number.isFinite(value)) return String(value);
    return rule.kind === "int" ? String(whatIf.BIG) : value > 0 ? "inf" : "-inf";
  }

  async function copy() {
    const button = byId("copy");
    try {
      await navigator.clipboard.writeText(byId("command").textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(byId("command")); // a browser may refuse a page from a file: it is selected
      button.textContent = "selected";
    }
    setTimeout(() => (button.textContent = "copy"), 2000);
  }

  if (!byId("would-keep")) return;
  charts.forEach(addControls);
  byId("preset").addEventListener("change", usePreset);
  byId("reset").addEventListener("click", () => {
    byId("preset").value = "";
    usePreset();
  });
  byId("copy").addEventListener("click", copy);
  for (const shows of inputs) for (const show of shows) show();
  // Charts out of sight are drawn when they come into sight.
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const chart = charts.find((each) => each.figure === entry.target);
      chart.isSeen = entry.isIntersecting;
      if (chart.isSeen && chart.isStale) whatIf.draw(chart);
    }
  });
  for (const chart of charts) watcher.observe(chart.figure);
  whatIf.judge();
  showOutcome();
})();
