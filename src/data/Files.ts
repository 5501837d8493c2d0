/**
 * Files: the rows of a file in the format that its name says, packed (`.gz`, `.zst`) or not.
 */
import { Stream } from "effect"
import * as Csv from "./Csv.ts"
import { DataError } from "./DataError.ts"
import * as Json from "./Json.ts"
import * as Jsonl from "./Jsonl.ts"
import * as Parquet from "./Parquet.ts"
import type * as Rows from "./Rows.ts"
import * as Text from "./Text.ts"

/** The formats that rows are read from. */
export type Format = "jsonl" | "json" | "csv" | "parquet" | "text"

const endings: Readonly<Record<string, Format>> = {
  jsonl: "jsonl",
  ndjson: "jsonl",
  json: "json",
  csv: "csv",
  parquet: "parquet",
  txt: "text",
  text: "text"
}

/** The format that a name says; undefined when it says none. */
export const format = (file: string): Format | undefined =>
  endings[/\.([a-z]+)(\.(gz|zstd?))?$/i.exec(file)?.[1]?.toLowerCase() ?? ""]

const readers: Readonly<Record<Format, (file: string) => Rows.Reader>> = {
  jsonl: Jsonl.read,
  json: Json.read,
  csv: Csv.read,
  parquet: Parquet.read,
  text: Text.read
}

/** The rows of a file; of a text file, a `prompt` a line. */
export const read = (file: string, as?: Format): Rows.Reader => {
  const found = as ?? format(file)
  if (found !== undefined) return readers[found](file)
  const known = Object.keys(endings).join(", .")
  return Stream.fail(new DataError({ file, message: `The name of ${file} says no format; known are .${known}.` }))
}
