"use strict";
// Lays each pair of pictures over one another, with a slider between them. Without this script
// they stand side by side.
for (const pair of document.querySelectorAll(".pair")) {
  const slider = document.createElement("input");
  slider.type = "range";
  slider.min = "0";
  slider.max = "100";
  slider.value = "50";
  slider.setAttribute("aria-label", pair.dataset.label);
  const show = () => {
    pair.style.setProperty("--split", `${slider.value}%`);
    slider.setAttribute("aria-valuetext", `${slider.value} % of the width before`);
  };
  slider.addEventListener("input", show);
  pair.append(slider);
  pair.classList.add("live");
  show();
}
