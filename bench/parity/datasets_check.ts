/**
 * Files that Charter writes, for `datasets_check.py` to load, and what that wrote from them, read again:
 *
 *   node bench/parity/datasets_check.ts write FOLDER
 *   python bench/parity/datasets_check.py FOLDER
 *   node bench/parity/datasets_check.ts read FOLDER
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Result, Stream } from "effect"
import assert from "node:assert/strict"
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import * as CaiConversations from "../../src/data/CaiConversations.ts"
import * as Jsonl from "../../src/data/Jsonl.ts"
import * as Parquet from "../../src/data/Parquet.ts"
import * as Rows from "../../src/data/Rows.ts"
import * as Trl from "../../src/data/Trl.ts"
import * as Sample from "../../src/Sample.ts"

const model = "m"

/** Two prompts, one of several turns and with characters of all sizes. */
const prompts = [
  Sample.prompt("How do I pick a lock?"),
  Sample.prompt([
    { role: "system", content: "Be brief." },
    { role: "user", content: 'Grüß Gott, 你好 "friend"\n\t🙂' },
    { role: "assistant", content: "Hello." },
    { role: "user", content: "How do I annoy my neighbour?" }
  ])
]

const answers = prompts.map((prompt, i) =>
  ["With a pin.", "Ask first, kindly."].map((text, index) =>
    Sample.response({ prompt, text: `${text} ${i}`, model, seed: 0, index })
  )
)

const revisions = answers.map(([response]) =>
  Sample.revision({
    critique: Sample.critique({
      response: response!,
      principle: "p",
      request: "What is bad?",
      text: "It is rude.",
      round: 1,
      model
    }),
    request: "Rewrite it.",
    text: "Talk to them.",
    round: 1,
    model
  })
)

const preferences = answers.map(([first, second]) =>
  Sample.preference({
    comparison: Sample.comparison(first!, second!),
    principle: "c",
    request: "Which is less harmful?",
    probability: 0.25,
    byOrder: [0.25],
    model
  })
)

const get = Result.getOrThrow

/** The six shapes; the names of the files. */
const trl = (form: Trl.Form): Readonly<Record<string, ReadonlyArray<Trl.Row>>> => ({
  "language-modelling": revisions.map(Trl.languageModelling(form)),
  "prompt-only": prompts.map(Trl.promptOnly(form)),
  "prompt-completion": revisions.map(Trl.promptCompletion(form)),
  preference: preferences.map((row) => get(Trl.preference(form, { margin: true })(row))),
  "preference-implicit": preferences.map((row) => get(Trl.preference(form, { implicit: true })(row))),
  "unpaired-preference": preferences.flatMap(Trl.unpairedPreference(form))
})

const forms = ["standard", "conversational"] as const

const turns = { list: { struct: { role: "string", content: "string" } } } as const

/** The columns of a shape as Parquet. */
const columnsOf = (row: Trl.Row): Parquet.Columns =>
  Object.fromEntries(
    Object.entries(row).map(([name, value]): [string, Parquet.Type] => {
      if (typeof value === "string") return [name, "string"]
      return [name, typeof value === "boolean" ? "boolean" : typeof value === "number" ? "double" : turns]
    })
  )

const cai = revisions.map(CaiConversations.fromRevision)

const [what, folder = ""] = process.argv.slice(2)
const back = join(folder, "back")

const write = Effect.gen(function* () {
  mkdirSync(back, { recursive: true })
  for (const form of forms) {
    for (const [shape, rows] of Object.entries(trl(form))) {
      for (const ending of ["jsonl", "jsonl.gz", "jsonl.zst"]) {
        yield* Stream.fromIterable(rows).pipe(Jsonl.write(join(folder, `${form}-${shape}.${ending}`)))
      }
      const file = join(folder, `${form}-${shape}.parquet`)
      yield* Stream.fromIterable(rows).pipe(Parquet.write(file, columnsOf(rows[0]!)))
    }
  }
  for (const split of CaiConversations.splits) {
    yield* Stream.fromIterable(cai).pipe(CaiConversations.write(join(folder, `${split}-00000-of-00001.parquet`)))
  }
})

const read = Effect.gen(function* () {
  let files = 0
  // `datasets` writes numbers in JSON with ten decimals.
  const rounded = (row: object) =>
    Object.fromEntries(
      Object.entries(row).map(([name, value]) => [name, typeof value === "number" ? value.toFixed(9) : value])
    )
  const equal = (found: ReadonlyArray<object>, rows: ReadonlyArray<object>) => {
    assert.deepEqual(found.map(rounded), rows.map(rounded))
    files++
  }
  for (const form of forms) {
    for (const [shape, rows] of Object.entries(trl(form))) {
      for (const [ending, reader] of [
        ["jsonl", Jsonl.read],
        ["parquet", Parquet.read]
      ] as const) {
        const file = join(back, `${form}-${shape}.${ending}`)
        const found = reader(file).pipe(Rows.decode(file, Trl.decode), Rows.onReject(Effect.die), Stream.runCollect)
        equal(yield* found, rows)
      }
    }
  }
  for (const split of CaiConversations.splits) {
    const file = join(back, `${split}-00000-of-00001.parquet`)
    equal(yield* CaiConversations.read(file).pipe(Rows.onReject(Effect.die), Stream.runCollect), cai)
  }
  console.log(`${files} files written by datasets hold the same rows`)
})

await Effect.runPromise(Effect.provide(what === "write" ? write : read, NodeServices.layer))
