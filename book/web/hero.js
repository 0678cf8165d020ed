// The front page's figure: circles move to where the map of the next round puts them.
addEventListener("DOMContentLoaded", () => {
  const figure = document.querySelector(".v2v-hero figure");
  if (!figure) return;
  const steps = JSON.parse(figure.querySelector("script").textContent);
  const [marks, lines] = ["g", "line"].map((n) => [...figure.querySelectorAll(`svg ${n}`)]);
  const bar = figure.querySelector(".v2v-turn");
  const slider = bar.querySelector("input");
  const play = bar.querySelector("button");
  const label = figure.querySelector(".v2v-label");
  let timer = null;
  const show = () => {
    const step = steps[slider.value];
    step.at.forEach(([x, y], i) => {
      marks[i].style.transform = `translate(${x}px,${y}px)`;
      lines[i].setAttribute("x1", x);
      lines[i].setAttribute("y1", y);
    });
    label.textContent = step.label;
    slider.setAttribute("aria-valuetext", step.label);
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "▶";
    play.setAttribute("aria-label", "play");
  };
  const start = () => {
    play.textContent = "❚❚";
    play.setAttribute("aria-label", "pause");
    timer = setInterval(() => {
      slider.value = (+slider.value + 1) % steps.length;
      show();
    }, 1700);
  };
  slider.addEventListener("input", () => { stop(); show(); });
  play.addEventListener("click", () => (timer ? stop() : start()));
  bar.hidden = false;
  show();
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) start();
});
