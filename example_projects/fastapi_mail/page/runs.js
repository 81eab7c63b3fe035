// Runs in the background: uploaded, followed, and found again when the page is opened another time.

import { problemOf } from "./batches.js";

const $ = (id) => document.getElementById(id);
const made = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
const many = new Intl.NumberFormat("en");
const ENDED = ["finished", "stopped", "cancelled"];
const STATES = { waiting: "Waiting", running: "At work", finished: "Finished", stopped: "Stopped", cancelled: "Cancelled" };
const following = new Map();

const address = (run, rest = "") => `api/runs/${run.id}${rest}`;

function tell(text, isProblem = false) {
  $("upload-status").textContent = text;
  $("upload-status").classList.toggle("problem", isProblem);
}

async function ask(method, url) {
  const response = await fetch(url, { method });
  if (!response.ok) throw new Error(await problemOf(response));
  return response.status === 204 ? null : response.json();
}

function facts(run) {
  const told = [`${many.format(run.done)} of ${many.format(run.rows)} rows`];
  if (run.errors) told.push(run.errors === 1 ? "1 error" : `${many.format(run.errors)} errors`);
  if (run.accuracy !== null) told.push(`${(100 * run.accuracy).toFixed(1)} % right`);
  if (run.state === "running" && run.rows_per_s) told.push(`${many.format(Math.round(run.rows_per_s))} rows a second`);
  if (run.state === "running" && run.left_s !== null) told.push(`${Math.ceil(run.left_s)} s left`);
  if (run.retry_at) told.push(`next try at ${new Date(run.retry_at).toLocaleTimeString()}`);
  return told.join(" · ");
}

function button(text, name, work) {
  const found = made("button", "", text);
  found.type = "button";
  found.setAttribute("aria-label", `${text}: ${name}`);
  found.addEventListener("click", async () => {
    found.disabled = true;
    try {
      await work();
      tell("");
    } catch (error) {
      found.disabled = false;
      tell(error.message, true);
    }
  });
  return found;
}

function link(text, name, href) {
  const found = Object.assign(made("a", "button", text), { href });
  found.setAttribute("aria-label", `${text}: ${name}`);
  return found;
}

function show(run) {
  const name = `run of ${new Date(run.created_at).toLocaleString()}`;
  const ended = ENDED.includes(run.state);
  const old = document.getElementById(`run-${run.id}`);
  const focused = old?.contains(document.activeElement) ? document.activeElement.textContent : null;
  const item = made("li", "run");
  item.id = `run-${run.id}`;
  const head = made("div", "row between");
  const title = made("p", "", new Date(run.created_at).toLocaleString());
  title.prepend(made("span", `chip ${{ finished: "ham", stopped: "spam" }[run.state] ?? "plain"}`,
    run.cancelling ? "Cancelling" : STATES[run.state]));
  const does = made("div", "row");
  if (run.done) {
    does.append(link("CSV", name, address(run, "/output?format=csv")), link("JSONL", name, address(run, "/output")));
  }
  if (ended) {
    does.append(Object.assign(link("Report", name, address(run, "/report")), { target: "_blank" }));
    if (run.state !== "finished") does.append(button("Resume", name, () => again(run, "/resume")));
    else if (run.errors) does.append(button("Retry failed rows", name, () => again(run, "/resume?retry_failed=true")));
    does.append(button("Remove", name, () => remove(run)));
  } else {
    does.append(button("Cancel", name, () => remove(run)));
  }
  head.append(title, does);
  const bar = Object.assign(made("progress", ""), { max: 1, value: run.rows ? run.done / run.rows : 1 });
  bar.setAttribute("aria-label", `Rows judged: ${name}`);
  item.append(head, bar, made("p", "facts", facts(run)));
  if (run.error) item.append(made("p", "why", run.error));
  if (old) old.replaceWith(item);
  else $("runs").prepend(item);
  if (focused) ([...item.querySelectorAll("button, a")].find((each) => each.textContent === focused) ?? item.querySelector("button, a"))?.focus();
}

// The browser connects again by itself, with the id of the last event, whichever process answers.
function follow(run) {
  show(run);
  if (ENDED.includes(run.state) || following.has(run.id)) return;
  const events = new EventSource(address(run, "/events"));
  following.set(run.id, events);
  events.addEventListener("progress", (event) => show(JSON.parse(event.data)));
  events.addEventListener("summary", (event) => {
    leave(run);
    show(JSON.parse(event.data));
  });
}

function leave(run) {
  following.get(run.id)?.close();
  following.delete(run.id);
}

async function again(run, rest) {
  follow(await ask("POST", address(run, rest)));
}

async function remove(run) {
  const left = await ask("DELETE", address(run));
  if (left) return show(left);
  document.getElementById(`run-${run.id}`).remove();
  $("upload").focus();
}

async function upload(file) {
  tell(`Uploading ${file.name} …`);
  const form = new FormData();
  form.append("file", file);
  // Posted again after the connection broke, the same upload is the same run.
  const headers = { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) };
  try {
    const response = await fetch("api/runs", { method: "POST", body: form, headers });
    if (!response.ok) throw new Error(await problemOf(response));
    follow(await response.json());
    tell(`${file.name} is uploaded. You can leave the page.`);
  } catch (error) {
    tell(`${file.name} was not taken: ${error.message}`, true);
  }
}

$("upload").addEventListener("change", () => {
  if ($("upload").files.length) upload($("upload").files[0]);
  $("upload").value = "";
});
$("upload-example").addEventListener("click", async () => {
  const response = await fetch("api/example");
  upload(new File([await response.blob()], "emails.dev.jsonl.gz"));
});

const { runs } = await ask("GET", "api/runs");
runs.reverse().forEach(follow);
