/**
 * Model: the model that a command was given, by its folder or by its name on the hub.
 */
import { Effect } from "effect"
import * as Checkpoint from "../model/Checkpoint.ts"
import * as HubModel from "../model/HubModel.ts"
import { fromInput } from "./UsageError.ts"

/** Where to draw: standard error, or something like it. */
export interface Output {
  readonly isTTY?: boolean | undefined
  readonly write: (text: string) => unknown
}

const megabytes = (bytes: number) => Math.floor(bytes / 1e6)

/** Tells of a download: a line that is drawn over on a terminal, and one every 15 seconds elsewhere. */
export const fetching = (output: Output, now: () => number = Date.now): ((progress: HubModel.Progress) => void) => {
  const interval = output.isTTY === true ? 100 : 15_000
  let drawn = now()
  let told = false
  return ({ done, model, total }) => {
    const finished = done === total
    if (finished ? !told : now() - drawn < interval) return
    drawn = now()
    told = true
    const text = `Fetching ${model}: ${megabytes(done)} of ${megabytes(total)} MB`
    output.write(output.isTTY === true ? `\r\x1b[2K${text}${finished ? "\n" : ""}` : `${text}\n`)
  }
}

/** Finds a model's folder, fetching it first where a name of the hub was given. */
export const locate = (reference: string) =>
  Effect.mapError(HubModel.locate(reference, { onProgress: fetching(process.stderr) }), fromInput)

/** Opens a model; what is wrong with it is wrong usage, as nothing has been done yet. */
export const open = Effect.fnUntraced(function* (reference: string) {
  const { dir } = yield* locate(reference)
  return yield* Effect.mapError(Checkpoint.open(dir), fromInput)
})
