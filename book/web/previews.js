// Beside a link to an equation, figure, citation or term: what it leads to.
(() => {
  let box = null;
  let asked = null;
  // A script, not a request: it can be read from a file too.
  const data = (root) => asked ??= new Promise((done) => {
    const script = document.createElement("script");
    script.src = `${root}_static/previewdata.js`;
    script.onload = () => done(window.v2vPreviews);
    script.onerror = () => done({});
    document.head.append(script);
  });
  const away = () => { box?.remove(); box = null; };
  const content = async (link) => {
    const place = decodeURIComponent(link.hash.slice(1));
    const here = link.pathname === location.pathname && document.getElementById(place);
    if (here && place.startsWith("fig-")) {
      const copy = here.cloneNode(true);
      copy.querySelectorAll(".v2v-turn, button").forEach((e) => e.remove());
      copy.querySelectorAll("[id]").forEach((e) => e.removeAttribute("id"));
      copy.querySelectorAll("img").forEach((img) => { img.loading = "eager"; });
      return copy.innerHTML;
    }
    const cited = /bibliography/.test(link.pathname) && /^id\d+$/.test(place);
    if (!cited && !/^(equation|term)-/.test(place)) return null;
    return (await data(document.documentElement.dataset.content_root))[place] ?? null;
  };
  const show = async (link) => {
    const inside = await content(link);
    if (!inside || !link.matches(":hover, :focus-visible")) return;
    away();
    box = document.createElement("div");
    box.className = "v2v-preview";
    box.setAttribute("role", "tooltip");
    box.innerHTML = inside;
    document.body.append(box);
    if (/\\[([]/.test(inside)) await window.MathJax?.typesetPromise?.([box]);
    if (!box) return;
    const at = link.getBoundingClientRect();
    const left = Math.max(8, Math.min(at.left, innerWidth - box.offsetWidth - 8));
    const below = at.bottom + box.offsetHeight + 12 < innerHeight;
    const top = below ? at.bottom + 6 : Math.max(8, at.top - box.offsetHeight - 6);
    Object.assign(box.style, { left: `${left}px`, top: `${top}px` });
    box.classList.add("v2v-shown");
  };
  addEventListener("DOMContentLoaded", () => {
    if (!matchMedia("(hover: hover)").matches) return;
    document.querySelectorAll("article a.internal[href*='#']").forEach((link) => {
      let wait = null;
      const begin = () => { wait = setTimeout(() => show(link), 250); };
      const end = () => { clearTimeout(wait); away(); };
      link.addEventListener("mouseenter", begin);
      link.addEventListener("focus", begin);
      link.addEventListener("mouseleave", end);
      link.addEventListener("blur", end);
    });
    addEventListener("keydown", (event) => { if (event.key === "Escape") away(); });
    addEventListener("scroll", away, { passive: true });
  });
})();
