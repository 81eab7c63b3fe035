// From a file to rows: CSV and JSONL, each also gzipped. What is in a row is not looked at here.

export async function rowsOf(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const zipped = bytes[0] === 0x1f && bytes[1] === 0x8b;
  const stream = new Blob([bytes]).stream();
  const text = await new Response(zipped ? stream.pipeThrough(new DecompressionStream("gzip")) : stream).text();
  const name = file.name.toLowerCase().replace(/\.gz$/, "");
  if (/\.(csv|tsv)$/.test(name)) return csvRows(text);
  if (/\.json$/.test(name)) return JSON.parse(text);
  if (/\.(jsonl|ndjson)$/.test(name)) return jsonlRows(text);
  throw new Error(`${file.name}: the name must end in .csv, .tsv, .jsonl, .ndjson or .json (or .gz of one)`);
}

function jsonlRows(text) {
  return text.split("\n").filter((line) => line.trim()).map((line, index) => {
    try {
      return JSON.parse(line);
    } catch (error) {
      throw new Error(`row ${index + 1} is no JSON: ${error.message}`);
    }
  });
}

function csvRows(text) {
  const [header = [], ...records] = csvRecords(text);
  if (!header.includes("body")) throw new Error(`there is no column body: the first line names ${header.join(", ")}`);
  return records.map((cells) => Object.fromEntries(header.map((name, place) => [name, cells[place] ?? ""])));
}

function csvRecords(text) {
  const first = text.slice(0, text.search(/\r?\n|$/));
  const delimiter = [",", ";", "\t"].reduce((best, mark) => first.split(mark).length > first.split(best).length ? mark : best);
  // A field in quotes, in which "" is a quote, or one without; then what ends it.
  const field = new RegExp(`(?:"((?:[^"]|"")*)"|([^"${delimiter}\\r\\n][^${delimiter}\\r\\n]*)?)(${delimiter}|\\r?\\n|$)`, "y");
  const records = [];
  let cells = [];
  field.lastIndex = text.startsWith("\ufeff") ? 1 : 0;
  while (field.lastIndex < text.length) {
    const place = field.lastIndex;
    const found = field.exec(text);
    if (!found) throw new Error(`record ${records.length + 1} is no CSV, from: ${text.slice(place, place + 30)}`);
    cells.push(found[1] === undefined ? found[2] ?? "" : found[1].replaceAll('""', '"'));
    if (found[3] !== delimiter) {
      if (cells.length > 1 || cells[0]) records.push(cells);
      cells = [];
    }
  }
  return records;
}

export function asCsv(rows) {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cell = (value) => {
    const text = value === undefined || value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((cells) => cells.map(cell).join(",")).join("\r\n") + "\r\n";
}

export const asJsonl = (rows) => rows.map((row) => JSON.stringify(row) + "\n").join("");
