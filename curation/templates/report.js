"use strict";
// All numbers of the page, also those that are only drawn: what what_if.js needs to move a threshold is here.
const report = JSON.parse(document.getElementById("report-data").textContent);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const number = (value) => {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return String(Number(value.toPrecision(4)));
  return Array.isArray(value) ? value.join(", ") || "none" : value;
};

// -- players: shown on a click, one at a time, and nothing but the span

function setUpPlayer(video) {
  const button = video.parentElement.querySelector(".play");
  video.controls = false;
  button.hidden = false;
  button.addEventListener("click", () => video.play());
  video.addEventListener("play", () => {
    for (const other of all("video")) if (other !== video) other.pause();
    video.controls = true;
    button.hidden = true;
  });
  video.addEventListener("error", () => {
    if (video.parentElement.querySelector(".blank")) return;
    const note = document.createElement("span");
    note.className = "blank";
    note.textContent = "this browser cannot play it";
    button.hidden = true;
    video.parentElement.append(note);
  });
  if (video.dataset.startS !== undefined) keepInside(video, Number(video.dataset.startS), Number(video.dataset.endS));
}

// A file that begins with frames from before the span: they are decoded, but never seen. Behind the span there are none.
function keepInside(video, start, end) {
  const goToStart = () => {
    if (video.currentTime < start) video.currentTime = start;
  };
  const showInside = (now, frame) => {
    video.classList.toggle("outside", frame.mediaTime < start - 0.002 || frame.mediaTime >= end);
    video.requestVideoFrameCallback(showInside);
  };
  // From the click on, not from when the metadata is told of: a first frame may be shown before that.
  video.addEventListener("play", () => video.classList.add("outside"), { once: true });
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(showInside);
  else video.addEventListener("seeked", () => video.classList.remove("outside"), { once: true });
  video.addEventListener("loadedmetadata", goToStart);
  video.addEventListener("seeking", goToStart);
  video.addEventListener("timeupdate", () => {
    if (video.currentTime < end) return;
    video.pause();
    video.currentTime = start;
  });
}

// -- contact sheets: which reasons are shown, and in what order

function showReason(reason) {
  for (const sheet of all(".sheet")) sheet.hidden = reason !== "" && sheet.dataset.reason !== reason;
  for (const chip of all(".chips button")) chip.setAttribute("aria-pressed", String(chip.dataset.reason === reason));
  for (const video of all(".sheet[hidden] video")) video.pause();
}

function order(column, isDescending) {
  for (const sheet of all(".cards")) {
    const cards = all(".clip", sheet);
    cards.forEach((card, place) => (card.dataset.place ??= place));
    const key = (card) => (column ? report.clips[card.dataset.clip].scores[column] : Number(card.dataset.place));
    const sign = isDescending ? -1 : 1;
    cards.sort((a, b) => {
      const [left, right] = [key(a), key(b)];
      if (left === null || right === null) return (left === null) - (right === null); // not measured: last
      const rises = typeof left === "number" || typeof left === "boolean" ? left - right : String(left).localeCompare(String(right));
      return sign * rises || a.dataset.place - b.dataset.place;
    });
    sheet.append(...cards);
    for (const card of cards) {
      const line = card.querySelector(".sorted");
      line.hidden = !column;
      line.textContent = column ? `${column} ${number(key(card))}` : "";
    }
  }
}

function fillScores(details) {
  const list = details.querySelector("dl");
  if (list.childElementCount) return;
  const clip = report.clips[details.closest(".clip").dataset.clip];
  for (const column of report.columns) {
    const [name, value] = [document.createElement("dt"), document.createElement("dd")];
    name.textContent = column.name;
    name.title = column.says;
    value.textContent = number(clip.scores[column.name]);
    list.append(name, value);
  }
}

function showFromAddress() {
  const sheet = all(".sheet").find((each) => `#${each.id}` === location.hash);
  if (sheet) {
    showReason(sheet.dataset.reason);
    sheet.scrollIntoView();
  }
  const card = all(".clip").find((each) => `#${each.id}` === location.hash);
  if (card) {
    if (card.closest(".sheet").hidden) showReason("");
    card.scrollIntoView({ block: "center" });
  }
}

// -- sources

function find(words) {
  const wanted = words.toLowerCase();
  for (const row of all(".sources tbody tr")) row.hidden = !row.textContent.toLowerCase().includes(wanted);
}

for (const controls of all(".controls")) controls.hidden = false;
all("video").forEach(setUpPlayer);
for (const chip of all(".chips button")) chip.addEventListener("click", () => showReason(chip.dataset.reason));
for (const details of all(".clip .scores")) details.addEventListener("toggle", () => fillScores(details));
document.getElementById("find")?.addEventListener("input", (event) => find(event.target.value));
const [column, descending] = [document.getElementById("order"), document.getElementById("descending")];
column?.addEventListener("change", () => order(column.value, descending.getAttribute("aria-pressed") === "true"));
descending?.addEventListener("click", () => {
  const isDescending = descending.getAttribute("aria-pressed") !== "true";
  descending.setAttribute("aria-pressed", String(isDescending));
  order(column.value, isDescending);
});
addEventListener("hashchange", showFromAddress);
showFromAddress();
