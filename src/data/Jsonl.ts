/**
 * Jsonl: one JSON object a line, each of which becomes a value or a typed reject.
 */
import { Result } from "effect"

/** A JSON object as it stands in a line. */
export type Row = Readonly<Record<string, unknown>>

/** The object in a line of text, or why there is none. */
export const parse = (text: string): Result.Result<Row, string> => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return Result.fail(`not valid JSON: ${error instanceof Error ? error.message : String(error)}`)
  }
  return isRow(value) ? Result.succeed(value) : Result.fail("not a JSON object")
}

const isRow = (value: unknown): value is Row => typeof value === "object" && value !== null && !Array.isArray(value)
