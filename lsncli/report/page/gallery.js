// The images: filtered, ordered, a page of tiles at a time, and one of them large.

const TILES = 24;

// Rows from the lowest score to the highest, once for all.
const rising = Uint32Array.from(rows.score, (_, row) => row).sort((a, b) => rows.score[a] - rows.score[b] || a - b);
const byName = Uint32Array.from(rising).sort((a, b) => (rows.path[a] < rows.path[b] ? -1 : 1));
const lowerPaths = rows.path.map((path) => path.toLowerCase());
let listed = [];
let opened = -1;

function* ordered() {
  if (state.sort === "low") yield* rising;
  else if (state.sort === "path") yield* byName;
  else if (state.sort === "high") for (let place = rising.length; place--; ) yield rising[place];
  else {
    // Nearest first: from the threshold outwards on both sides.
    let up = rising.findIndex((row) => !isOod(rows.score[row]));
    if (up < 0) up = rising.length;
    let down = up - 1;
    while (down >= 0 || up < rising.length) {
      const under = down < 0 ? Infinity : state.gamma - rows.score[rising[down]];
      const over = up >= rising.length ? Infinity : rows.score[rising[up]] - state.gamma;
      yield over <= under ? rising[up++] : rising[down--];
    }
  }
}

function wanted(row) {
  if (state.set >= 0 && rows.set[row] !== state.set) return false;
  if (state.verdict !== "all" && (state.verdict === "ood") !== isOod(rows.score[row])) return false;
  if (state.class >= 0 && rows.predicted[row] !== state.class) return false;
  return !state.query || lowerPaths[row].includes(state.query);
}

function showImages() {
  listed = [];
  for (const row of ordered()) if (wanted(row)) listed.push(row);
  const pages = Math.max(1, Math.ceil(listed.length / TILES));
  state.page = Math.min(state.page, pages - 1);
  const start = state.page * TILES;
  const part = listed.slice(start, start + TILES);
  at("grid").replaceChildren(...(part.length ? part.map(tile) : [make("li", { class: "empty" }, "No image is like that.")]));
  at("found").textContent = many(listed.length, "image");
  at("page").textContent = `Page ${number.format(state.page + 1)} of ${number.format(pages)}`;
  allow("before", "after", state.page > 0, state.page < pages - 1);
  at("before").parentElement.hidden = pages === 1;
}

// Which of two buttons can be pressed. One that goes out of use hands its focus on, or keys would be dead.
function allow(back, on, canGoBack, canGoOn) {
  const focused = document.activeElement;
  at(back).disabled = !canGoBack;
  at(on).disabled = !canGoOn;
  if (focused === at(on) && !canGoOn) at(back).focus();
  if (focused === at(back) && !canGoBack) at(on).focus();
}

function turn(step) {
  state.page += step;
  showImages();
  at("images").scrollIntoView();
}

const baseName = (path) => path.slice(path.lastIndexOf("/") + 1);

function picture(row) {
  const which = rows.picture[row];
  if (which < 0) return make("span", { class: "blank" }, baseName(rows.path[row]));
  return make("img", { src: page.pictures[which], alt: "", decoding: "async" });
}

function tile(row, place) {
  const ood = isOod(rows.score[row]);
  const name = className(rows.predicted[row]);
  const numbers = [["score", shownScore(rows.score[row])]];
  if (rows.positive) numbers.push(["yes", shownScore(rows.positive[row])], ["no", signed(rows.negative[row])]);
  const button = make("button", { class: "tile", type: "button", title: rows.path[row], onclick: () => openCard(state.page * TILES + place) },
    make("span", { class: "frame" }, picture(row), ood ? make("span", { class: "badge" }, "OOD") : make("span", { class: "unseen" }, "ID")),
    make("span", { class: "name" }, name),
    ...numbers.map(([what, shown]) => make("span", { class: `numbers ${what}` }, make("span", {}, `${what} `), make("span", {}, shown))));
  return make("li", {}, button);
}

// Arrow keys walk over the tiles as they lie on the screen.
function walk(event) {
  const tiles = [...at("grid").querySelectorAll(".tile")];
  const from = tiles.indexOf(document.activeElement);
  if (from < 0) return;
  const columns = getComputedStyle(at("grid")).gridTemplateColumns.split(" ").length;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -from, End: tiles.length - 1 - from };
  if (!(event.key in steps)) return;
  event.preventDefault();
  tiles[Math.min(tiles.length - 1, Math.max(0, from + steps[event.key]))].focus();
}

function openCard(place) {
  opened = place;
  showCard();
  if (at("card").open) return;
  at("card").showModal();
  at("card-after").focus(); // at the last image, where it is disabled, the focus stays where the dialog put it
}

function stepCard(step) {
  const place = opened + step;
  if (place < 0 || place >= listed.length) return;
  openCard(place);
  const onPage = Math.floor(place / TILES);
  if (onPage !== state.page) {
    state.page = onPage;
    showImages();
  }
}

function closeCard() {
  at("grid").querySelectorAll(".tile")[opened - state.page * TILES]?.focus();
}

// A number of the card, and where it stands among the held-out ID images.
function trait(title, value, shown, reference, meaning) {
  const made = make("div", {}, make("dt", {}, make("span", {}, title), make("b", {}, shown)));
  if (!reference) return meaning ? (made.append(make("dd", {}, meaning)), made) : made;
  const share = below(reference, value) / reference.length;
  const mark = make("i");
  mark.style.left = `${100 * share}%`;
  const words = share === 0 ? "lower than every held-out ID image"
    : share === 1 ? "higher than every held-out ID image"
    : `higher than ${percent(share, 1, share < 0.1 ? 1 : 0)} of held-out ID images`;
  made.append(make("dd", { class: "where" }, make("span", { class: "rank" }, mark), words));
  return made;
}

// The training images most like the picture of a row: names only, for they are not in this page.
function alike(row) {
  const found = page.nearest[rows.picture[row]] || [];
  if (!found.length) return null;
  const lines = found.map(([key, name, cosine]) => make("li", {}, make("span", {}, name || "no class"), make("b", {}, cosine.toFixed(3)), make("small", {}, key)));
  return make("div", { class: "alike" }, make("p", { class: "kicker" }, "Nearest training images, by cosine"), make("ol", {}, ...lines));
}

function showCard() {
  const row = listed[opened];
  const score = rows.score[row];
  const ood = isOod(score);
  const set = page.sets[rows.set[row]];
  const against = (key) => (calibration ? calibration[key] : null);
  const traits = [trait("Score", score, shownScore(score), against("scores"), "")];
  if (rows.positive) {
    const [yes, no] = [rows.positive[row], rows.negative[row]];
    traits.push(
      trait("Positive prompts", yes, shownScore(yes), against("positive"), "how much they say that it is one of the classes"),
      trait("Negative prompts", no, signed(no), against("negative"), "how little they say that it is none of them"),
    );
  }
  const label = set.labels ? set.labels[rows.row[row]] : -1;
  const truth = label >= 0 ? ` · truly ${className(label)}` : set.kind === "ood" ? " · known to be OOD" : set.kind === "id" ? " · known to be ID" : "";
  const looks = (page.looks[rows.picture[row]] || []).map(([prompt, map]) =>
    make("figure", {}, make("img", { src: map, alt: `Where the ${prompt} prompt looks` }), make("figcaption", {}, prompt)));
  const frame = make("div", { class: "frame" }, rows.picture[row] < 0 ? make("span", {}, "no picture in this page") : picture(row));
  if (frame.firstChild.tagName === "IMG") frame.firstChild.alt = `Picture of ${baseName(rows.path[row])}`;
  const gap = shownScore(Math.abs(score - state.gamma));
  at("card-body").replaceChildren(
    make("div", { class: "card" },
      make("div", {}, frame, ...(looks.length ? [make("div", { class: "looks" }, ...looks), make("p", { class: "hint" }, "Where the prompts of this class look: brighter is more.")] : [])),
      make("div", {},
        make("p", { class: "kicker" }, "Most like"),
        make("h3", { id: "card-title" }, className(rows.predicted[row])),
        make("p", { class: `verdict ${ood ? "ood" : "id"}` }, ood ? `OOD: ${gap} below the threshold` : `ID: ${gap} above the threshold`),
        make("dl", { class: "traits" }, ...traits),
        make("p", { class: "file" }, rows.path[row]),
        page.sets.length > 1 ? make("p", { class: "file" }, set.name + truth) : truth ? make("p", { class: "file" }, truth.slice(3)) : null,
        alike(row))),
  );
  at("card-place").textContent = `${number.format(opened + 1)} of ${number.format(listed.length)}`;
  allow("card-before", "card-after", opened > 0, opened < listed.length - 1);
}
