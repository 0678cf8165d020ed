// Flip-books: a slider, its buttons, and the frames of which one is shown.
const turnable = (figure) => {
  const bar = figure.querySelector(".v2v-turn");
  const slider = bar.querySelector("input");
  const play = bar.querySelector(".v2v-play");
  const label = figure.querySelector(".v2v-label");
  const frames = [...figure.querySelectorAll(".v2v-frame")];
  let timer = null;
  const ready = () => frames.forEach((frame) =>
    frame.querySelectorAll("img").forEach((img) => { img.loading = "eager"; }));
  const show = () => {
    frames.forEach((frame, at) => { frame.hidden = at !== +slider.value; });
    label.textContent = frames[slider.value].dataset.label;
    slider.setAttribute("aria-valuetext", label.textContent);
  };
  const go = (to) => {
    slider.value = (to + frames.length) % frames.length;
    show();
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "▶";
    play.setAttribute("aria-pressed", "false");
  };
  slider.addEventListener("input", () => { stop(); show(); });
  bar.querySelectorAll("[data-by]").forEach((button) =>
    button.addEventListener("click", () => {
      stop();
      go(+slider.value + +button.dataset.by);
    }));
  play.addEventListener("click", () => {
    if (timer) return stop();
    play.textContent = "❚❚";
    play.setAttribute("aria-pressed", "true");
    go(+slider.value + 1);
    timer = setInterval(() => go(+slider.value + 1), 1100);
  });
  // Frames are fetched before they are wanted, but not before the figure is near.
  new IntersectionObserver((seen, self) => {
    if (!seen.some((one) => one.isIntersecting)) return;
    self.disconnect();
    ready();
  }, { rootMargin: "300px" }).observe(figure);
  bar.hidden = false;
  show();
};

// Any figure, large: a dialog that closes by key, button or click.
const enlargeable = (figure) => {
  const name = figure.querySelector("figcaption strong")?.textContent ?? "the figure";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "v2v-zoom";
  button.textContent = "⤢";
  button.setAttribute("aria-label", `enlarge ${name.replace(/\.$/, "")}`);
  const open = () => {
    const shown = [...figure.querySelectorAll("img")].find((img) => img.offsetHeight);
    const dialog = document.createElement("dialog");
    dialog.className = "v2v-large";
    dialog.setAttribute("aria-label", name);
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "×";
    close.setAttribute("aria-label", "close");
    const box = document.createElement("div");
    box.tabIndex = 0;
    box.append(shown.cloneNode());
    dialog.append(close, box);
    dialog.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  };
  button.addEventListener("click", open);
  figure.querySelectorAll("img").forEach((img) => img.addEventListener("click", open));
  figure.prepend(button);
};

addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("figure.v2v-book").forEach(turnable);
  document.querySelectorAll("figure.v2v-figure").forEach(enlargeable);
});

// Paper is white and has every figure, also those that were not in sight yet.
let theme;
addEventListener("beforeprint", () => {
  theme = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
  document.querySelectorAll(".v2v-frame:not([hidden]) img, .v2v-figure > .v2v-drawn img")
    .forEach((img) => { img.loading = "eager"; });
});
addEventListener("afterprint", () => { document.documentElement.dataset.theme = theme; });
