// Rows in, verdicts out, over the API. Nothing of the page here.

// Browsers read nothing of an answer before they have sent all they send: posted in parts, results come all along.
const ROWS_A_POST = 200;
const POSTS_AT_ONCE = 2;
const KEY = "_row";

export async function problemOf(response) {
  const told = await response.json().catch(() => ({}));
  const detail = typeof told.detail === "string" ? told.detail : told.title;
  return `${detail ?? response.statusText} (${response.status})`;
}

// The events of a response, one by one. What is of no interest here (ids, comments) is passed over.
async function* eventsOf(response) {
  let waiting = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (waiting + value).split("\n\n");
    waiting = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").filter((line) => !line.startsWith(":")).map((line) => {
        const colon = line.indexOf(": ");
        return [line.slice(0, colon), line.slice(colon + 2)];
      }));
      if (fields.event) yield { name: fields.event, data: JSON.parse(fields.data) };
    }
  }
}

async function post(rows, numbers, signal, onResult) {
  const body = numbers.map((number) => JSON.stringify({ ...rows[number], [KEY]: number }) + "\n").join("");
  const headers = { "Content-Type": "application/x-ndjson" };
  const response = await fetch(`api/batch?key=${KEY}`, { method: "POST", headers, body, signal });
  if (!response.ok) throw new Error(await problemOf(response));
  let over = false;
  for await (const { name, data } of eventsOf(response)) {
    if (name === "result" && data.status !== "cancelled") onResult(Number(data.key), data);
    if (name === "error") throw new Error(data.detail);
    over ||= name === "summary";
  }
  if (!over) throw new Error("The connection broke off.");
}

// Runs the rows of these numbers. Rejects with what ended it early; what has come by then has been handed out.
export async function judge(rows, numbers, signal, onResult) {
  const ending = new AbortController();
  const any = AbortSignal.any([signal, ending.signal]);
  let next = 0;
  const poster = async () => {
    while (next < numbers.length) {
      const part = numbers.slice(next, next += ROWS_A_POST);
      await post(rows, part, any, onResult);
    }
  };
  try {
    await Promise.all(Array.from({ length: POSTS_AT_ONCE }, poster));
  } finally {
    ending.abort();
  }
}
