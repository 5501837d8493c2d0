/**
 * TrainTokens: rows of token ids as what is learnt from: `{input_ids, labels}` with −100 where nothing is to be learnt,
 * and `{chosen_input_ids, rejected_input_ids}` for pairs. Every mask of a row counts.
 */
import { Result } from "effect"
import type * as Rows from "../data/Rows.ts"
import * as Layout from "../engine/Layout.ts"
import type { NamedPair, NamedRow } from "../engine/TrainingData.ts"

const isIds = (value: unknown): value is ReadonlyArray<number> =>
  Array.isArray(value) && value.every((x) => Number.isInteger(x))

/** The token ids of a column. */
const idsOf = (row: Rows.Row, name: string): Result.Result<ReadonlyArray<number>, string> =>
  isIds(row[name]) ? Result.succeed(row[name]) : Result.fail(`\`${name}\` is not a list of token ids`)

/** A mask of 0 and 1, or false and true; all ones where a row has none. */
const maskOf = (
  row: Rows.Row,
  name: string,
  of: string,
  length: number
): Result.Result<ReadonlyArray<0 | 1>, string> => {
  const mask = row[name]
  if (mask === undefined) return Result.succeed(Array.from({ length }, () => 1 as const))
  if (!Array.isArray(mask) || mask.some((x) => x !== 0 && x !== 1 && typeof x !== "boolean")) {
    return Result.fail(`\`${name}\` is not a list of 0 and 1`)
  }
  return mask.length === length
    ? Result.succeed(mask.map((x) => (x === 0 || x === false ? 0 : 1)))
    : Result.fail(`\`${name}\` is not as long as \`${of}\``)
}

/** Token ids of a column without the padding that an attention mask marks at their end. */
export const unpadded = (row: Rows.Row, name: string, maskName: string): Result.Result<ReadonlyArray<number>, string> =>
  Result.gen(function* () {
    const ids = yield* idsOf(row, name)
    const mask = yield* maskOf(row, maskName, name, ids.length)
    const length = mask.lastIndexOf(1) + 1
    return mask.slice(0, length).includes(0)
      ? yield* Result.fail(`\`${maskName}\` hides tokens before the last one; pad on the right`)
      : ids.slice(0, length)
  })

/** Keys that others use, or mistype: read over, all tokens of such a row would be learnt. */
const mistaken: ReadonlyArray<readonly [key: string, meant: string]> = [
  ["label", "labels"],
  ["label_ids", "labels"],
  ["loss_mask", "completion_mask"],
  ["completion_masks", "completion_mask"],
  ["assistant_mask", "assistant_masks"],
  ["attention_masks", "attention_mask"]
]

/** Why a row is several in one, which must not read each other, if it is. */
const packed = (row: Rows.Row, length: number): string | undefined => {
  const [lengths, positions] = [row["seq_lengths"], row["position_ids"]]
  const restarts =
    Array.isArray(positions) && positions.slice(0, length).some((at, t) => t > 0 && !(at > positions[t - 1]))
  const name = restarts ? "position_ids" : "seq_lengths"
  return restarts || (lengths !== undefined && !(Array.isArray(lengths) && lengths.length === 1))
    ? `it is several rows in one (\`${name}\`); give each as a row of its own, --packing puts them side by side`
    : undefined
}

/** A row of supervised fine-tuning. */
export const row = (row: Rows.Row): Result.Result<Omit<NamedRow, "id">, string> =>
  Result.gen(function* () {
    const found = mistaken.find(
      ([key, meant]) => row[key] !== undefined && (meant !== "labels" || row[meant] === undefined)
    )
    if (found !== undefined) return yield* Result.fail(`it has \`${found[0]}\`, where \`${found[1]}\` is read`)
    const ids = yield* unpadded(row, "input_ids", "attention_mask")
    const several = packed(row, ids.length)
    if (several !== undefined) return yield* Result.fail(several)
    const given = (yield* idsOf(row, "input_ids")).length
    const completion = yield* maskOf(row, "completion_mask", "input_ids", given)
    const assistant = yield* maskOf(row, "assistant_masks", "input_ids", given)
    const weights = ids.map((_, t) => completion[t]! * assistant[t]!)
    if (row["labels"] === undefined) return { ids, weights }
    const labels = yield* idsOf(row, "labels")
    if (labels.length !== given) return yield* Result.fail("`labels` is not as long as `input_ids`")
    const shifted = ids.findIndex((id, t) => labels[t] !== -100 && labels[t] !== id)
    if (shifted >= 0) {
      return yield* Result.fail(
        `\`labels\` has ${labels[shifted]} where \`input_ids\` has ${ids[shifted]} (position ${shifted}); labels are not shifted, and -100 is no label`
      )
    }
    return { ids, weights: weights.map((weight, t) => (labels[t] === -100 ? 0 : weight)) }
  })

/** Two sequences, and where they may differ. */
export type Sides = Pick<NamedPair, "first" | "second"> & { readonly from: number }

type Side = "prompt" | "chosen" | "rejected"

/** Under TRL's old names or its new ones: `chosen_input_ids`, or `chosen_ids`. */
const named = (row: Rows.Row, side: Side): string =>
  row[`${side}_ids`] === undefined ? `${side}_input_ids` : `${side}_ids`

/** Whether a row is a pair of token ids. */
export const hasPair = (row: Rows.Row): boolean => row[named(row, "chosen")] !== undefined

/** With the prompt's ids the two are completions, without them whole sequences that share their prompt. */
export const pair = (row: Rows.Row): Result.Result<Sides, string> =>
  Result.gen(function* () {
    const labels = ["chosen_labels", "rejected_labels"].find((name) => row[name] !== undefined)
    if (labels !== undefined) {
      return yield* Result.fail(
        `it has \`${labels}\`, which is not read; give \`prompt_input_ids\` and the completions' tokens alone`
      )
    }
    const side = (side: Side) => unpadded(row, named(row, side), `${side}_attention_mask`)
    const prompt = row[named(row, "prompt")] === undefined ? [] : yield* side("prompt")
    const chosen = yield* side("chosen")
    const rejected = yield* side("rejected")
    if (chosen.length === 0 || rejected.length === 0) return yield* Result.fail("one of the completions is empty")
    const [first, second] = [
      [...prompt, ...chosen],
      [...prompt, ...rejected]
    ]
    // Each of the two keeps a token of its own, also where one continues the other.
    const shared = Math.min(Layout.common([first, second]), first.length - 1, second.length - 1)
    return { first, second, from: prompt.length > 0 ? prompt.length : shared }
  })
