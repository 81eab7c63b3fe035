// From a file to rows and back: CSV, JSONL and JSON, each also gzipped. Browsers are not needed here.

// What a file holds: its rows, and by their numbers the reasons why some of them cannot be read.
export async function rowsOf(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const zipped = bytes[0] === 0x1f && bytes[1] === 0x8b;
  const stream = new Blob([bytes]).stream();
  const text = textOf(zipped ? await new Response(stream.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer() : bytes);
  const name = file.name.toLowerCase().replace(/\.gz$/, "");
  if (/\.(csv|tsv)$/.test(name)) return withEmails(csvRows(text));
  if (/\.json$/.test(name)) return withEmails(jsonRows(text));
  if (/\.(jsonl|ndjson)$/.test(name)) return withEmails(jsonlRows(text));
  throw new Error(`${file.name}: the name must end in .csv, .tsv, .jsonl, .ndjson or .json (or .gz of one)`);
}

// UTF-16 where its mark or its zeros say so, UTF-8 where it is valid, else Latin-1 as Windows has it.
function textOf(given) {
  const bytes = new Uint8Array(given);
  const zeros = [0, 1].map((side) => bytes.subarray(0, 100).filter((byte, place) => place % 2 === side && byte === 0).length);
  const few = Math.min(bytes.length, 100) / 4;
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || zeros[1] > few) return new TextDecoder("utf-16le").decode(bytes);
  if ((bytes[0] === 0xfe && bytes[1] === 0xff) || zeros[0] > few) return new TextDecoder("utf-16be").decode(bytes);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

// The members that the program and the page read, whatever the case of their names: `Subject` and `BODY` are meant.
function withEmails({ rows, problems }) {
  const emails = rows.map((row, number) => {
    if (problems.has(number)) return {};
    if (row === null || typeof row !== "object" || Array.isArray(row)) {
      problems.set(number, `row ${number + 1} is not an object with a body`);
      return {};
    }
    const email = {};
    for (const [name, value] of Object.entries(row)) {
      const known = name.trim().toLowerCase();
      if (["id", "subject", "body", "label"].includes(known) && !(known in email)) email[known] = value;
    }
    return email;
  });
  return { rows, emails, problems };
}

function jsonRows(text) {
  const found = JSON.parse(text);
  if (Array.isArray(found)) return { rows: found, problems: new Map() };
  const lists = Object.entries(found ?? {}).filter(([, value]) => Array.isArray(value));
  const [, rows] = lists.find(([name]) => name.toLowerCase() === "rows") ?? (lists.length === 1 ? lists[0] : []);
  if (!rows) throw new Error('the rows must be an array: [{…}], or {"rows": [{…}]}');
  return { rows, problems: new Map() };
}

function jsonlRows(text) {
  const problems = new Map();
  const rows = [];
  text.split("\n").forEach((line, index) => {
    if (!line.trim()) return;
    try {
      rows.push(JSON.parse(line));
    } catch (error) {
      problems.set(rows.length, `line ${index + 1} is not JSON: ${error.message}`);
      rows.push({ line });
    }
  });
  if (rows.length && problems.size === rows.length) throw new Error(problems.get(0));
  return { rows, problems };
}

function csvRows(text) {
  const problems = new Map();
  const [{ cells: header = [] } = {}, ...records] = csvRecords(text);
  if (!header.some((name) => name.trim().toLowerCase() === "body")) {
    throw new Error(`there is no column body: the first line names ${header.join(", ")}`);
  }
  const rows = records.map(({ cells, line, broken }, number) => {
    if (broken !== undefined) problems.set(number, `line ${line} is not CSV: ${broken.slice(0, 40)}`);
    else if (cells.length !== header.length) {
      problems.set(number, `line ${line} has ${cells.length} fields, and the first line ${header.length}`);
    }
    return Object.fromEntries(header.map((name, place) => [name, cells[place] ?? ""]));
  });
  return { rows, problems };
}

function csvRecords(text) {
  const first = text.slice(0, text.search(/\r?\n|$/));
  const delimiter = [",", ";", "\t"].reduce((best, mark) => first.split(mark).length > first.split(best).length ? mark : best);
  // A field in quotes, in which "" is a quote, or one without; then what ends it.
  const field = new RegExp(`(?:"((?:[^"]|"")*)"|([^"${delimiter}\\r\\n][^${delimiter}\\r\\n]*)?)(${delimiter}|\\r?\\n|$)`, "y");
  const records = [];
  let cells = [];
  let line = 1;
  let begin = field.lastIndex = text.startsWith("\ufeff") ? 1 : 0;
  const end = (record) => {
    records.push({ cells, line, ...record });
    line += text.slice(begin, field.lastIndex).split("\n").length - 1;
    begin = field.lastIndex;
    cells = [];
  };
  while (field.lastIndex < text.length) {
    const place = field.lastIndex;
    const found = field.exec(text);
    if (!found) {
      // To the end of its line, so that the others are read.
      const ending = text.indexOf("\n", place);
      field.lastIndex = ending < 0 ? text.length : ending + 1;
      end({ broken: text.slice(place, field.lastIndex).trim() });
      continue;
    }
    cells.push(found[1] === undefined ? found[2] ?? "" : found[1].replaceAll('""', '"'));
    if (found[3] === delimiter && field.lastIndex < text.length) continue;
    if (found[3] === delimiter) cells.push("");
    if (cells.length > 1 || cells[0]) end({});
    else {
      line += 1;
      begin = field.lastIndex;
      cells = [];
    }
  }
  return records;
}

// A spreadsheet would run what begins like a formula; an apostrophe before it makes it text. Numbers stay numbers.
const asText = (text) => /^[=+\-@\t\r]/.test(text) && !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? `'${text}` : text;

export function asCsv(rows) {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cell = (value) => {
    const text = asText(value === undefined || value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((cells) => cells.map(cell).join(",")).join("\r\n") + "\r\n";
}

export const asJsonl = (rows) => rows.map((row) => JSON.stringify(row) + "\n").join("");
