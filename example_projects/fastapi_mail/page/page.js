// The page: what is shown, and what happens when someone does something.

import { judge, problemOf } from "./batches.js";
import { asCsv, asJsonl, rowsOf } from "./rows.js";

const $ = (id) => document.getElementById(id);
const made = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
const many = new Intl.NumberFormat("en");
const share = (part, whole) => (whole ? `${(100 * part / whole).toFixed(1)} %` : "–");
const LATEST = 50;

// One e-mail

const EXAMPLE = {
  subject: "Congratulations: claim your prize",
  body: "Dear friend,\n\nyou have been selected to receive a FREE prize worth $1,000! Click here now to claim it, this offer expires today.\n\nTo be removed from our mailing list reply with REMOVE.",
};

function showVerdict(className, title, text) {
  const shown = made("div", `verdict ${className}`);
  shown.append(made("strong", "", title), made("span", "", text));
  $("verdict").replaceChildren(shown);
}

$("one").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.submitter ?? $("one").querySelector("button");
  button.disabled = true;
  try {
    const response = await fetch("api/verdicts", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(Object.fromEntries(new FormData($("one")))),
    });
    if (!response.ok) throw new Error(await problemOf(response));
    const { label, latency_ms } = await response.json();
    showVerdict(label, label === "spam" ? "Spam" : "Not spam", `in ${latency_ms.toFixed(1)} ms`);
  } catch (error) {
    showVerdict("problem", "No verdict", error.message);
  } finally {
    button.disabled = false;
    button.focus();
  }
});

$("one-example").addEventListener("click", () => {
  $("subject").value = EXAMPLE.subject;
  $("body").value = EXAMPLE.body;
  $("body").focus();
});

// Many e-mails

let run = null;

class Run {
  constructor(name, { rows, emails, problems } = { rows: [], emails: [], problems: new Map() }) {
    this.name = name;
    this.rows = rows;
    this.emails = emails;
    this.results = new Map();
    this.errors = this.right = this.compared = 0;
    this.lastError = "";
    this.seconds = 0;
    this.rates = [];
    this.latest = [];
    this.latestWrong = [];
    for (const [number, error] of problems) this.add(number, { status: "error", error });
  }

  get missing() {
    return this.rows.map((_, number) => number).filter((number) => !this.results.has(number));
  }

  add(number, result) {
    if (this.results.has(number)) return;
    this.results.set(number, result);
    const label = this.emails[number].label;
    if (result.status === "error") {
      this.errors += 1;
      this.lastError = result.error;
    } else if (label) {
      this.compared += 1;
      this.right += result.output.label === label;
    }
    for (const list of this.isWrong(number) ? [this.latest, this.latestWrong] : [this.latest]) {
      list.unshift(number);
      list.length = Math.min(list.length, LATEST);
    }
  }

  isWrong(number) {
    const { status, output } = this.results.get(number);
    const { label } = this.emails[number];
    return status !== "ok" || Boolean(label) && label !== output.label;
  }

  // The rows as they came, with what was made of each. A column of theirs keeps its name: ours takes another.
  joined() {
    const theirs = new Set(this.rows.flatMap((row) => Object.keys(Object(row))));
    const free = (name) => theirs.has(name) ? free(`loopai_${name}`) : name;
    const [status, verdict, latency, error] = ["status", "verdict", "latency_ms", "error"].map(free);
    return this.rows.map((row, number) => {
      const result = this.results.get(number);
      const told = { [status]: result?.status ?? "missing" };
      if (result?.status === "ok") Object.assign(told, { [verdict]: result.output.label, [latency]: result.latency_ms });
      if (result?.error) told[error] = result.error;
      return { ...row, ...told };
    });
  }
}

function tell(text, isProblem = false) {
  $("status").textContent = text;
  $("status").classList.toggle("problem", isProblem);
}

function show() {
  const done = run.results.size;
  const total = run.rows.length;
  $("bar").value = total ? done / total : 1;
  $("rows").textContent = many.format(done);
  $("of").textContent = `of ${many.format(total)}`;
  $("rate").textContent = run.seconds && done ? many.format(Math.round(done / run.seconds)) : "–";
  $("accuracy").textContent = share(run.right, run.compared);
  $("compared").textContent = run.compared ? `${many.format(run.compared - run.right)} wrong` : "no labels";
  $("errors").textContent = many.format(run.errors);
  $("errors").classList.toggle("some", run.errors > 0);
  $("error-kind").textContent = $("error-kind").title = run.lastError;
  const most = Math.max(...run.rates, 1);
  const step = 100 / Math.max(run.rates.length - 1, 1);
  const line = run.rates.map((rate, place) => `${(place * step).toFixed(2)} ${(23 - 21 * rate / most).toFixed(2)}`);
  $("chart").firstElementChild.setAttribute("d", line.length > 1 ? `M-2 26L-2 ${line[0].split(" ")[1]}L${line.join("L")}L102 26` : "");
  showLatest();
}

function showLatest() {
  const shown = $("only-wrong").checked ? run.latestWrong : run.latest;
  const focused = document.activeElement?.closest("#latest tr")?.dataset.number;
  $("latest").replaceChildren(...shown.map(tableRow));
  $("nothing").hidden = shown.length > 0 || !run.results.size;
  if (focused) $("latest").querySelector(`[data-number="${focused}"] button`)?.focus();
}

function tableRow(number) {
  const row = made("tr");
  const { subject, label } = run.emails[number];
  row.dataset.number = number;
  const result = run.results.get(number);
  const verdict = made("td");
  if (result.status === "ok") {
    verdict.append(made("span", `chip ${result.output.label}`, result.output.label));
    if (label && label !== result.output.label) verdict.append(made("span", "wrong", `is ${label}`));
  } else {
    verdict.append(made("span", "chip problem", "error"));
    verdict.title = result.error;
  }
  const opens = made("button", "plain", subject || "(no subject)");
  opens.type = "button";
  opens.addEventListener("click", () => showMail(number));
  const cell = made("td");
  cell.append(opens);
  row.append(made("td", "", many.format(number + 1)), cell, verdict);
  return row;
}

function showMail(number) {
  const { subject, body, label } = run.emails[number];
  const { status, output, error } = run.results.get(number);
  const text = (value) => typeof value === "string" ? value : JSON.stringify(value ?? "");
  $("mail-subject").textContent = subject ? text(subject) : "(no subject)";
  $("mail-verdict").className = `verdict ${status === "ok" ? output.label : "problem"}`;
  $("mail-verdict").textContent = status === "ok"
    ? `Row ${many.format(number + 1)}: ${output.label}${label ? `, labelled ${label}` : ""}`
    : `Row ${many.format(number + 1)}: ${error}`;
  $("mail-body").textContent = body === undefined ? JSON.stringify(run.rows[number], null, 1) : text(body);
  $("mail").showModal();
  $("mail-body").scrollTop = 0;
}

$("only-wrong").addEventListener("change", showLatest);
$("mail-close").addEventListener("click", () => $("mail").close());

async function go() {
  const stopping = new AbortController();
  const before = run.seconds;
  const started = performance.now();
  let counted = run.results.size;
  let at = started;
  $("stop").hidden = false;
  for (const id of ["resume", "again", "downloads"]) $(id).hidden = true;
  $("stop").onclick = () => stopping.abort();
  tell("Judging …");
  const tick = () => {
    const now = performance.now();
    run.seconds = before + (now - started) / 1000;
    if (now - at >= 250) {
      run.rates.push((run.results.size - counted) / (now - at));
      [counted, at] = [run.results.size, now];
      show();
    }
  };
  const ticking = setInterval(tick, 100);
  let ended;
  let broken = false;
  try {
    await judge(run.emails, run.missing, stopping.signal, (number, result) => run.add(number, result));
    ended = `All ${many.format(run.rows.length)} rows judged in ${run.seconds.toFixed(1)} s`;
    ended += run.compared ? `, ${share(run.right, run.compared)} of them right.` : ".";
  } catch (error) {
    broken = !stopping.signal.aborted;
    const why = broken ? `It broke off: ${error.message}` : "Stopped.";
    ended = `${why} ${many.format(run.missing.length)} rows are left.`;
  }
  clearInterval(ticking);
  tick();
  show();
  // Whoever used the button that goes has the focus on the one that comes.
  const focused = document.activeElement === $("stop") || document.activeElement === document.body;
  $("stop").hidden = true;
  $("resume").hidden = !run.missing.length;
  for (const id of ["again", "downloads"]) $(id).hidden = false;
  if (focused) $(run.missing.length ? "resume" : "as-csv").focus();
  tell(ended, broken);
}

async function take(file) {
  $("drop").hidden = true;
  $("run").hidden = false;
  $("run").classList.remove("unreadable");
  $("name").textContent = file.name;
  tell("Reading …");
  try {
    run = new Run(file.name);
    show();
    run = new Run(file.name, await rowsOf(file));
    show();
  } catch (error) {
    $("run").classList.add("unreadable");
    $("stop").hidden = $("resume").hidden = $("downloads").hidden = true;
    $("again").hidden = false;
    $("again").focus();
    tell(`The file cannot be read: ${error.message}`, true);
    return;
  }
  $("stop").focus();
  await go();
}

$("file").addEventListener("change", () => {
  if ($("file").files.length) take($("file").files[0]);
});
$("example").addEventListener("click", async () => {
  const response = await fetch("api/example");
  take(new File([await response.blob()], "emails.dev.jsonl.gz"));
});
$("resume").addEventListener("click", () => {
  go();
  $("stop").focus();
});
$("again").addEventListener("click", () => {
  $("run").hidden = true;
  $("drop").hidden = false;
  $("file").value = "";
  $("file").focus();
});

for (const [id, make, type] of [["as-csv", asCsv, "text/csv"], ["as-jsonl", asJsonl, "application/x-ndjson"]]) {
  $(id).addEventListener("click", () => {
    const link = made("a", "");
    link.href = URL.createObjectURL(new Blob([make(run.joined())], { type }));
    link.download = run.name.replace(/(\.[a-z]+)?(\.gz)?$/i, "") + (type === "text/csv" ? ".verdicts.csv" : ".verdicts.jsonl");
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", type.startsWith("drage") || type === "dragover");
    if (type === "drop" && !$("drop").hidden && event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
}
