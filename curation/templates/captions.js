"use strict";
// Which clips are shown by what is said of them. A clip matches if one of its captions is all that is asked for.

(() => {
  const [flag, kind, who, words] = ["flag", "kind", "who", "find"].map((name) => document.getElementById(`caption-${name}`));
  if (!flag) return;
  const selects = { flag, kind, who };
  const clips = all(".sheet .clip").map((card) => ({
    card,
    isKept: card.closest(".sheet").dataset.reason === "kept",
    captions: all(".caption", card).map((element) => ({
      element,
      kind: element.dataset.kind,
      who: element.dataset.who,
      flags: JSON.parse(element.dataset.flags),
      text: plain(element.querySelector(".said")?.textContent ?? ""),
      isSilent: element.classList.contains("silent"),
    })),
  }));

  function plain(text) {
    return text.normalize("NFC").toLowerCase().replace(/\s+/g, " ").trim();
  }

  const asked = () => ({ flag: flag.value, kind: kind.value, who: who.value, words: plain(words.value) });
  const isAsked = (filter) => Object.values(filter).some((value) => value !== "");

  /** Whether a caption is of the kind, model and words that are asked for. */
  function isOf(caption, filter) {
    return (
      (!filter.kind || `is:${caption.kind}` === filter.kind) &&
      (!filter.who || `is:${caption.who}` === filter.who) &&
      caption.text.includes(filter.words)
    );
  }

  function hasFlag(caption, wanted) {
    if (wanted === "") return true;
    if (wanted === "any") return caption.flags.length > 0;
    if (wanted === "clean") return !caption.flags.length && !caption.isSilent;
    return caption.flags.includes(wanted.slice(3)); // is:NAME
  }

  const found = (clip, filter) => clip.captions.filter((caption) => isOf(caption, filter) && hasFlag(caption, filter.flag));

  function matches(clip, filter) {
    if (!isAsked(filter)) return true;
    if (filter.flag === "none") return clip.isKept && !clip.captions.some((caption) => !caption.isSilent && isOf(caption, filter));
    return found(clip, filter).length > 0;
  }

  function update() {
    const filter = asked();
    for (const clip of clips) {
      clip.card.hidden = !matches(clip, filter);
      if (clip.card.hidden) clip.card.querySelector("video")?.pause();
      const ours = isAsked(filter) && filter.flag !== "none" ? found(clip, filter) : [];
      for (const caption of clip.captions) caption.element.classList.toggle("found", ours.includes(caption));
      const windows = clip.card.querySelector(".windows");
      if (windows && ours.length && ours.every((caption) => windows.contains(caption.element))) windows.open = true;
    }
    for (const sheet of all(".sheet")) {
      const cards = all(".clip", sheet);
      const shown = cards.filter((card) => !card.hidden).length;
      sheet.classList.toggle("unmatched", isAsked(filter) && !shown);
      sheet.querySelector(".matching").textContent = isAsked(filter) ? ` · ${shown} match` : "";
    }
    const shown = clips.filter((clip) => !clip.card.hidden).length;
    document.getElementById("caption-count").textContent = `${shown} of ${clips.length} clips on this page`;
    document.getElementById("caption-reset").hidden = !isAsked(filter);
    countOptions(filter);
  }

  /** Beside each choice, how many clips it would show with the other choices as they are. */
  function countOptions(filter) {
    for (const [name, select] of Object.entries(selects))
      for (const option of select.options) {
        const n = clips.filter((clip) => matches(clip, { ...filter, [name]: option.value })).length;
        option.textContent = `${option.dataset.label} (${n})`;
      }
  }

  function reset() {
    for (const select of Object.values(selects)) select.value = "";
    words.value = "";
    update();
  }

  for (const select of Object.values(selects)) select.addEventListener("change", update);
  let waiting;
  words.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 80);
  });
  document.getElementById("caption-reset").addEventListener("click", reset);
  for (const link of all("a[data-flag]"))
    link.addEventListener("click", () => {
      reset();
      flag.value = `is:${link.dataset.flag}`;
      update();
    });
  // A link to a clip that is filtered out shows all clips again.
  const showTarget = () => {
    const target = clips.find((clip) => `#${clip.card.id}` === location.hash);
    if (!target?.card.hidden) return;
    reset();
    target.card.scrollIntoView({ block: "center" });
  };
  addEventListener("hashchange", showTarget);
  update();
})();
