"use strict";
(function () {
  var bar = document.getElementById("filter");
  if (!bar) return;
  var text = document.getElementById("text");
  var shown = document.getElementById("shown");
  var chips = Array.prototype.slice.call(bar.querySelectorAll(".chip"));
  var devices = Array.prototype.slice.call(document.querySelectorAll("tbody.device")).map(function (node) {
    return { node: node, verdict: node.dataset.verdict, words: node.textContent.toLowerCase() };
  });
  function apply() {
    var wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    var verdicts = chips.filter(function (c) { return c.getAttribute("aria-pressed") === "true"; })
      .map(function (c) { return c.dataset.verdict; });
    var count = 0;
    devices.forEach(function (d) {
      var fits = (!verdicts.length || verdicts.indexOf(d.verdict) >= 0) &&
        wanted.every(function (w) { return d.words.indexOf(w) >= 0; });
      d.node.hidden = !fits;
      if (fits) count += 1;
    });
    shown.textContent = (count === devices.length ? shown.dataset.all : shown.dataset.some)
      .replace("{count}", count).replace("{total}", devices.length);
  }
  chips.forEach(function (chip) {
    chip.addEventListener("click", function () {
      chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") === "true" ? "false" : "true");
      apply();
    });
  });
  text.addEventListener("input", apply);
  bar.hidden = false;
  apply();
})();
