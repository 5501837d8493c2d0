/**
 * Model: the model that a command was given, by its folder or by its name on the hub.
 */
import { Effect } from "effect"
import { existsSync } from "node:fs"
import { join } from "node:path"
import * as Checkpoint from "../model/Checkpoint.ts"
import * as HubModel from "../model/HubModel.ts"
import * as Lora from "../model/Lora.ts"
import * as RewardHead from "../model/RewardHead.ts"
import * as ShardIndex from "../model/ShardIndex.ts"
import * as AdapterBase from "./AdapterBase.ts"
import { UsageError, fromInput } from "./UsageError.ts"

/** Where to draw: standard error, or something like it. */
export interface Output {
  readonly isTTY?: boolean | undefined
  readonly write: (text: string) => unknown
}

const megabytes = (bytes: number) => Math.floor(bytes / 1e6)

/** Tells of a download: a line that is drawn over on a terminal, and one every 15 seconds elsewhere. */
export const fetching = (
  output: Output,
  now: () => number = () => performance.now()
): ((progress: HubModel.Progress) => void) => {
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

/** Whether a folder is an adapter's alone; some trainers put its model's config.json beside it. */
export const isAdapter = (dir: string): boolean =>
  existsSync(join(dir, "adapter_config.json")) &&
  ![ShardIndex.wholeName, ShardIndex.indexName].some((name) => existsSync(join(dir, name)))

/** Opens a model of any kind; what is wrong with it is wrong usage, as nothing has been done yet. */
export const openAny = Effect.fnUntraced(function* (reference: string) {
  const { dir } = yield* locate(reference)
  if (isAdapter(dir)) {
    return yield* new UsageError({
      message: `${reference} is an adapter and no model; give the folder of its model, and this one as --adapter where the command has that.`
    })
  }
  return yield* Effect.mapError(Checkpoint.open(dir), fromInput)
})

/** Opens a model that is no whole reward model; `refusal` says of one what to do instead. */
const openWriter = Effect.fnUntraced(function* (reference: string, refusal: string) {
  const checkpoint = yield* openAny(reference)
  if (yield* Effect.mapError(RewardHead.isIn(checkpoint.dir), fromInput)) {
    return yield* new UsageError({ message: `${reference} is ${refusal}` })
  }
  return checkpoint
})

/** Opens a model that writes: a reward model that is a whole folder has a head of another kind. */
export const open = (reference: string) =>
  openWriter(
    reference,
    "a reward model, which writes nothing; use it with charter score, or as a --reward-model of charter train."
  )

/**
 * Opens what a reward model is trained from: a model that writes or, to go on with all of its parameters, a whole reward
 * model. An adapter over one would be an adapter over no policy's model.
 */
export const openJudge = (reference: string, full: boolean) =>
  full
    ? openAny(reference)
    : openWriter(
        reference,
        "a whole reward model; add --full to train it further, or give the model that writes to train a new adapter with a score."
      )

/**
 * Reads an adapter for a model, and tells if it was made for another one. A reward model that is a whole folder is none:
 * its weights are its own.
 */
export const adapter = Effect.fnUntraced(function* (dir: string, checkpoint: Checkpoint.Checkpoint) {
  const found = yield* Effect.mapError(Lora.read(dir, checkpoint.config), fromInput)
  if (found.config === Lora.nothing) {
    return yield* new UsageError({
      message: `${dir} is a whole reward model and no adapter; give it to charter score as --model, or to charter train as --reward-model.`
    })
  }
  yield* AdapterBase.tell(dir, checkpoint)
  return found
})
