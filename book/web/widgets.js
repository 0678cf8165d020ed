// The widgets' manager speaks to MathJax 2, the book has MathJax 3: translate its one call.
window.addEventListener("load", () => {
  if (window.MathJax && !window.MathJax.Hub) {
    window.MathJax.Hub = {
      Queue: ([, , element]) => window.MathJax.typesetPromise?.([element]),
    };
  }
});
