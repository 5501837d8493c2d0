import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Result } from "effect"
import { createHash } from "node:crypto"
import { readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as TrainRows from "../../src/cli/TrainRows.ts"
import type * as Rows from "../../src/data/Rows.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import { jsonl, sandbox, tiny, tokenRows, workplace } from "./TrainFixture.ts"

describe("A file of rows", () => {
  it.effect("is known by its bytes, of which no more than some are in memory", () =>
    Effect.gen(function* () {
      const file = jsonl(join(workplace(), "rows.jsonl"), tokenRows(2000))
      const { hash } = yield* TrainRows.read(file, () => Effect.succeed({}))
      assert.strictEqual(hash, createHash("sha256").update(readFileSync(file)).digest("hex").slice(0, 16))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("that cannot be read again is named in a sentence", () =>
    Effect.gen(function* () {
      const file = jsonl(join(workplace(), "rows.jsonl"), tokenRows(1))
      const gone = TrainRows.read(file, () => Effect.sync(() => (rmSync(file), {})))
      assert.include((yield* Effect.flip(gone)).message, `${file} cannot be read: ENOENT`)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("has rows of several shapes, each with null in the columns of the others", () =>
    Effect.gen(function* () {
      const rows = [
        { input_ids: null, text: "Hello", labels: null, chosen_ids: null },
        { input_ids: [5, 6], text: null, labels: null, completion_mask: null, attention_mask: null, seq_lengths: null }
      ]
      const file = jsonl(join(workplace(), "rows.jsonl"), rows)
      const read = yield* TrainRows.read(file, (row) => Effect.succeed({ row }))
      assert.deepStrictEqual(
        read.rows.map(({ row }) => row),
        [{ text: "Hello" }, { input_ids: [5, 6] }]
      )
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("of CSV has numbers and booleans where they are asked for, and none in an empty cell", () =>
    Effect.gen(function* () {
      const file = join(workplace(), "rows.csv")
      writeFileSync(
        file,
        "prompt,completion,label,margin,probability\n1,2,TRUE,-0.5,1e-1\ntrue,,False,,\n3,4,yes,much,0"
      )
      const read = yield* TrainRows.read(file, (row) => Effect.succeed({ row }))
      assert.deepStrictEqual(
        read.rows.map(({ row }) => row),
        [
          { prompt: "1", completion: "2", label: true, margin: -0.5, probability: 0.1 },
          { prompt: "true", completion: "", label: false },
          { prompt: "3", completion: "4", label: "yes", margin: "much", probability: 0 }
        ]
      )
    }).pipe(Effect.provide(NodeServices.layer))
  )
})

describe("Rows of text", () => {
  it.effect("are learnt with their end, but where they say that they were cut off", () =>
    Effect.gen(function* () {
      const checkpoint = yield* Checkpoint.open(sandbox)
      const read = TrainRows.example(yield* TrainRows.encoder(checkpoint, 64))
      const row = { prompt: "How do I bake bread?", completion: " With flour." }
      const [whole, ended, cut] = [
        yield* read(row),
        yield* read({ ...row, finish: "stop" }),
        yield* read({ ...row, finish: "length" })
      ]
      assert.deepStrictEqual(ended, whole)
      assert.deepStrictEqual(cut.ids, whole.ids.slice(0, -1))
      assert.include(checkpoint.eosTokenIds, whole.ids.at(-1))
    })
  )
})

describe("Rows of token ids", () => {
  const encoder = Effect.map(Checkpoint.open(tiny), (checkpoint) => ({
    checkpoint,
    codec: Option.none(),
    maxLength: 64
  }))
  /** What is made of each row, or why nothing is. */
  const made = <A>(make: (encoder: TrainRows.Encoder) => (row: Rows.Row) => Effect.Effect<A, string>) =>
    Effect.fnUntraced(function* (...rows: ReadonlyArray<Rows.Row>) {
      const all = yield* Effect.forEach(rows, (row) => Effect.result(Effect.flatMap(encoder, (e) => make(e)(row))))
      return all.map((one) => (Result.isSuccess(one) ? one.success : one.failure))
    })
  const examples = made(TrainRows.example)
  const pairs = made((encoder) => TrainRows.pair(encoder, "reward"))
  const prompts = made((encoder) => TrainRows.prompt(encoder, 4))
  const input_ids = [5, 6, 7, 8]

  it.effect("count where all of their masks do, be they of numbers or of booleans", () =>
    Effect.gen(function* () {
      const found = yield* examples(
        { input_ids, labels: input_ids, completion_mask: [0, 0, 1, 1] },
        { input_ids, completion_mask: [0, 1, 1, 1], assistant_masks: [0, 0, 0, 1] },
        { input_ids, assistant_masks: [false, true, true, false] },
        { input_ids, labels: [-100, 6, 7, 8], completion_mask: [1, 1, 0, 1], attention_mask: [1, 1, 1, 0] }
      )
      assert.deepStrictEqual(found, [
        { ids: input_ids, weights: [0, 0, 1, 1] },
        { ids: input_ids, weights: [0, 0, 0, 1] },
        { ids: input_ids, weights: [0, 1, 1, 0] },
        { ids: [5, 6, 7], weights: [0, 1, 0] }
      ])
    })
  )

  it.effect("are rejected for a mask that is none, is too short, or has another name beside its own", () =>
    Effect.gen(function* () {
      const found = yield* examples(
        { input_ids, labels: input_ids, completion_mask: [0, 2, 1, 1] },
        { input_ids, labels: input_ids, assistant_masks: [1] },
        { input_ids, completion_mask: [0, 0, 1, 1], loss_mask: [0, 1, 1, 1] }
      )
      assert.deepStrictEqual(found, [
        "`completion_mask` is not a list of 0 and 1",
        "`assistant_masks` is not as long as `input_ids`",
        "it has `loss_mask`, where `completion_mask` is read"
      ])
    })
  )

  it.effect("are rejected where one is several, which would read each other", () =>
    Effect.gen(function* () {
      const found = yield* examples(
        { input_ids, seq_lengths: [2, 2] },
        { input_ids, position_ids: [0, 1, 0, 1] },
        { input_ids, seq_lengths: [4], position_ids: [0, 1, 2, 3] },
        { input_ids, position_ids: [0, 1, 2, 0], attention_mask: [1, 1, 1, 0] }
      )
      assert.include(found[0], "it is several rows in one (`seq_lengths`)")
      assert.include(found[1], "it is several rows in one (`position_ids`)")
      assert.deepStrictEqual(found.slice(2), [
        { ids: input_ids, weights: [1, 1, 1, 1] },
        { ids: [5, 6, 7], weights: [1, 1, 1] }
      ])
    })
  )

  it.effect("lose their padding in pairs and prompts, too", () =>
    Effect.gen(function* () {
      const [pair, labelled] = yield* pairs(
        {
          ...{ prompt_input_ids: [4, 5, 0], prompt_attention_mask: [1, 1, 0] },
          ...{ chosen_input_ids: [6, 2, 0, 0], chosen_attention_mask: [1, 1, 0, 0] },
          ...{ rejected_input_ids: [7, 8, 2], rejected_attention_mask: [1, 1, 1] }
        },
        { chosen_input_ids: [5, 6], rejected_input_ids: [5, 7], chosen_labels: [-100, 6], rejected_labels: [-100, 7] }
      )
      assert.deepStrictEqual(pair, { first: [4, 5, 6, 2], second: [4, 5, 7, 8, 2], from: 2, probability: 1, margin: 0 })
      const sides = { chosen_input_ids: [5, 6], rejected_input_ids: [5, 7] }
      assert.deepStrictEqual(yield* pairs({ ...sides, margin: 1e39 }), ["`margin` is not a finite number"])
      assert.include(labelled, "it has `chosen_labels`, which is not read")
      const found = yield* prompts(
        { input_ids: [5, 6, 7, 0, 0], attention_mask: [1, 1, 1, 0, 0] },
        { input_ids: [0, 0, 5, 6, 7], attention_mask: [0, 0, 1, 1, 1] }
      )
      assert.deepStrictEqual(found, [
        { ids: [5, 6, 7] },
        "`attention_mask` hides tokens before the last one; pad on the right"
      ])
    })
  )
})
