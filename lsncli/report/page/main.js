// Sentences at the top, controls, and what is drawn again when something is chosen.

const input = ofKind("input");
const NOTHING = "None of these images could be read.";

function showSummary() {
  const { all, ood, failed } = total(input.length ? input : page.sets);
  const known = total(ofKind("id"));
  const foreign = total(ofKind("ood"));
  if (input.length) {
    at("headline").textContent = all
      ? `${number.format(ood)} of ${many(all, "image")} ${ood === 1 ? "does" : "do"} not seem to belong.`
      : NOTHING;
  } else {
    const kept = known.all ? `${percent(known.all - known.ood, known.all)} of ID images are kept` : "";
    const caught = foreign.all ? `${percent(foreign.ood, foreign.all)} of OOD images are caught` : "";
    const both = [kept, caught].filter(Boolean).join(", ");
    at("headline").textContent = both ? `${both}.` : NOTHING;
  }
  const held = keptOfCalibration(state.gamma);
  const promise =
    held !== null
      ? ` The threshold keeps ${percent(held, 1)} of ${many(calibration.count, "held-out ID image")}: some that do belong fall below it.`
      : page.heldOut
        ? ` The threshold was set to keep ${percent(page.target, 1, 0)} of ${many(page.heldOut, "held-out ID image")}.`
        : "";
  at("subline").textContent = `Scored by ${page.detector} on ${many(page.classes.length, "class", "classes")}, model ${page.model}.${promise}`;

  at("share").hidden = !input.length;
  if (!input.length) {
    at("legend").replaceChildren(...page.sets.map((set) => {
      const one = counted(set);
      const [kind, rate, word] = set.kind === "id" ? ["in", one.all - one.ood, "kept"] : ["out", one.ood, "caught"];
      const found = one.all ? [make("b", {}, percent(rate, one.all)), ` ${word}`] : ["none could be read"];
      return make("li", {}, make("span", { class: `dot ${kind}` }), set.name, " ", ...found);
    }));
    return;
  }
  // Rates are of the images that have a score, here as everywhere on the page.
  const rate = (count) => (all ? `, ${percent(count, all)}` : "");
  const parts = [["out", ood, `OOD${rate(ood)}`], ["in", all - ood, `ID${rate(all - ood)}`], ["bad", failed, "could not be read"]];
  for (const [kind, count] of parts) {
    const bar = at("share").querySelector(`.${kind}`);
    bar.style.width = `${(100 * count) / (all + failed)}%`;
    bar.hidden = !count;
  }
  at("legend").replaceChildren(
    ...parts.filter(([kind, count]) => count || (all && kind !== "bad")).map(([kind, count, text]) =>
      make("li", {}, make("span", { class: `dot ${kind}` }), make("b", {}, number.format(count)), ` ${text}`)),
  );
}

function showReadout() {
  const { all, ood } = total(chosenSets());
  at("gamma").textContent = shownScore(state.gamma);
  at("counts").replaceChildren(make("b", {}, number.format(ood)), ` OOD${all ? ` (${percent(ood, all)})` : ""}`);
  const held = keptOfCalibration(state.gamma);
  at("keeps").replaceChildren(...(held === null ? [] : ["keeps ", make("b", {}, percent(held, 1)), " of held-out ID"]));
  const moved = state.gamma !== page.gamma;
  at("reset").hidden = !moved;
  // A rate of 0 or 1 cannot be a target.
  const target = held === null ? "" : held.toFixed(3);
  const lasting = moved && page.sameRows && Number(target) > 0 && Number(target) < 1;
  at("command").hidden = !lasting;
  if (lasting) {
    at("command").replaceChildren("To keep this threshold: ", make("code", {}, `lsn calibrate --method ${page.method} --target-tpr ${target}`));
  }
  const slider = at("slider");
  const place = Math.min(1, Math.max(0, shareOf(state.gamma)));
  slider.style.setProperty("--at", `calc(${100 * place}% + ${INSET - 2 * INSET * place}px)`);
  slider.setAttribute("aria-valuetext", `${shownScore(state.gamma)}, ${number.format(ood)} OOD`);
  if (!moved) slider.value = Math.round(1000 * place);
}

// Many slider events can arrive between two frames: draw once for the last.
let waiting = false;
function thresholdMoved() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    showSummary();
    showReadout();
    moveGamma();
    movePoints();
    showImages();
    showClasses();
  });
}

function fillChoices() {
  at("set").append(make("option", { value: "-1" }, "All sets"), ...page.sets.map((set, place) => make("option", { value: place }, set.name)));
  at("set").value = String(state.set);
  at("set-label").hidden = page.sets.length < 2;
  const names = page.classes.map((name, label) => [name, label]).sort((a, b) => a[0].localeCompare(b[0]));
  at("class").append(make("option", { value: "-1" }, "All"), ...names.map(([name, label]) => make("option", { value: label }, name)));
  at("histogram-hint").textContent = calibration
    ? `Bars: the share of these images at each score. Line: the same of ${many(calibration.count, "held-out ID image")}${page.sameRows ? ", which set the threshold" : ""}. Below the threshold an image counts as OOD.`
    : "Bars: the share of these images at each score. Below the threshold an image counts as OOD.";
  at("images-hint").textContent = "Each with the class it is most like and its score" +
    (rows.positive ? "; below, the parts of the score: what the positive prompts say (yes) and what the negative prompts say (no)." : ".");
  if (page.odds) at("histogram-hint").textContent += " The scale is that of odds, since most scores are near one end.";
  const all = total(page.sets).all;
  const shown = rows.count < all ? `${number.format(rows.count)} of ${many(all, "image")} are listed here, and ` : "";
  const few = page.pictures.length && page.pictures.length < all;
  at("pictures-hint").textContent = few
    ? `${shown}${number.format(page.pictures.length)}${shown ? "" : ` of ${many(all, "image")}`} ${page.pictures.length === 1 ? "has" : "have"} a picture: the lowest, the borderline, the highest, and some of every class.`
    : page.pictures.length || !shown ? "" : `${shown}there are no pictures.`;
  at("notes").replaceChildren(...page.notes.map((note) => make("p", { class: "note" }, note)));
}

function chooseTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  const dark = (theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  at("theme").textContent = dark ? "Light" : "Dark";
  at("theme").setAttribute("aria-label", dark ? "Switch to light colours" : "Switch to dark colours");
  at("theme").onclick = () => chooseTheme(dark ? "light" : "dark");
}

function listen() {
  const again = (change) => (event) => {
    change(event.target.value);
    state.page = 0;
    showImages();
  };
  at("slider").addEventListener("input", (event) => {
    state.gamma = scoreAt(event.target.value / 1000);
    thresholdMoved();
  });
  at("reset").addEventListener("click", () => {
    state.gamma = page.gamma;
    thresholdMoved();
    at("slider").focus();
  });
  at("set").addEventListener("change", (event) => {
    state.set = Number(event.target.value);
    state.page = 0;
    drawHistogram();
    showReadout();
    showImages();
    showClasses();
  });
  at("tools").addEventListener("submit", (event) => event.preventDefault());
  for (const radio of at("tools").querySelectorAll("[name=verdict]")) radio.addEventListener("change", again((value) => (state.verdict = value)));
  at("sort").addEventListener("change", again((value) => (state.sort = value)));
  at("class").addEventListener("change", again((value) => (state.class = Number(value))));
  at("query").addEventListener("input", again((value) => (state.query = value.toLowerCase())));
  at("before").addEventListener("click", () => turn(-1));
  at("after").addEventListener("click", () => turn(1));
  at("grid").addEventListener("keydown", walk);
  at("card-before").addEventListener("click", () => stepCard(-1));
  at("card-after").addEventListener("click", () => stepCard(1));
  at("card-close").addEventListener("click", () => at("card").close());
  at("card").addEventListener("close", closeCard);
  at("card").addEventListener("click", (event) => event.target === at("card") && at("card").close());
  at("card").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") stepCard(-1);
    if (event.key === "ArrowRight") stepCard(1);
  });
  at("classes-all").addEventListener("click", () => {
    allClasses = !allClasses;
    showClasses();
  });
  at("failures-all").addEventListener("click", () => {
    allFailures = !allFailures;
    showFailures();
  });
  new ResizeObserver(() => at("histogram").clientWidth !== histogram.width && drawHistogram()).observe(at("histogram"));
  new IntersectionObserver(([seen]) => at("control").classList.toggle("stuck", !seen.isIntersecting && seen.boundingClientRect.top < 0)).observe(at("histogram"));
}

chooseTheme("");
fillChoices();
drawHistogram();
drawCurves();
showSummary();
showReadout();
movePoints();
showImages();
showClasses();
showFailures();
showFacts();
listen();
