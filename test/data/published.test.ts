import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Path, Result, Stream } from "effect"
import * as CaiConversations from "../../src/data/CaiConversations.ts"
import * as HhRlhf from "../../src/data/HhRlhf.ts"
import * as Jsonl from "../../src/data/Jsonl.ts"
import * as Parquet from "../../src/data/Parquet.ts"
import * as Published from "../../src/data/Published.ts"
import * as Rows from "../../src/data/Rows.ts"
import * as Trl from "../../src/data/Trl.ts"
import * as Sample from "../../src/Sample.ts"

const temporary = Effect.fnUntraced(function* (name: string) {
  const fs = yield* FileSystem.FileSystem
  return (yield* Path.Path).join(yield* fs.makeTempDirectoryScoped(), name)
})

const model = "m"
const prompt = Sample.prompt([
  { role: "user", content: "Hi" },
  { role: "assistant", content: "Hello" },
  { role: "user", content: "How do I pick a lock?" }
])
const response = (text: string, index = 0) => Sample.response({ prompt, text, model, seed: 0, index })
const rewritten = (from: Sample.Response, round: number) =>
  Sample.revision({
    critique: Sample.critique({
      response: from,
      principle: `p${round}`,
      request: `What is bad, ${round}?`,
      text: `This is, ${round}.`,
      round,
      model
    }),
    request: `Rewrite it: ${round}.`,
    text: `Call a locksmith, ${round}.`,
    round,
    model
  })
const one = rewritten(response("With a pin."), 1)
const two = rewritten(Sample.revised(one), 2)
const preference = (probability: number) =>
  Sample.preference({
    comparison: Sample.comparison(response("With a pin."), response("Call a locksmith.", 1)),
    principle: "c",
    request: "Which is less harmful?",
    probability,
    byOrder: [probability],
    model
  })

const get = Result.getOrThrow

layer(NodeServices.layer)("published formats", (it) => {
  it.effect("Published: chains of several rounds are written and read with their ids", () =>
    Effect.gen(function* () {
      const file = yield* temporary("chains.jsonl")
      yield* Stream.make(Published.fromRevisions([one, two])!).pipe(Published.write(file))
      const rows = yield* Published.read(file).pipe(Rows.onReject(Effect.die), Stream.runCollect)
      assert.deepStrictEqual(rows.map(Published.toRevisions(model)).map(get), [[one, two]])
    })
  )

  it.effect("CaiConversations: revisions are written and read with exactly the published columns", () =>
    Effect.gen(function* () {
      const file = yield* temporary("train_sft.parquet")
      const written = [one, two].map(CaiConversations.fromRevision)
      yield* Stream.fromIterable(written).pipe(CaiConversations.write(file))
      const rows = yield* CaiConversations.read(file).pipe(Rows.onReject(Effect.die), Stream.runCollect)
      assert.deepStrictEqual(rows, written)
      assert.deepStrictEqual(Object.keys(rows[0]!), Object.keys(CaiConversations.columns))
      const back = get(CaiConversations.toRevision()(rows[0]!))
      assert.strictEqual(back.critique.response.prompt.id, prompt.id)
      assert.deepStrictEqual(CaiConversations.fromRevision(back), rows[0])
    })
  )

  it.effect("HhRlhf: preferences are written and read; a row without a shared prompt is rejected", () =>
    Effect.gen(function* () {
      const file = yield* temporary("hh.jsonl.gz")
      const row = get(HhRlhf.fromPreference(preference(0.2)))
      assert.isTrue(row.chosen.endsWith("\n\nAssistant: Call a locksmith."))
      assert.isTrue(Result.isFailure(HhRlhf.fromPreference(preference(0.5))))
      yield* Stream.make(row, { chosen: "a", rejected: "b" }, row).pipe(HhRlhf.write(file))
      const all = yield* Stream.runCollect(HhRlhf.read(file))
      assert.deepStrictEqual(all.map(Result.isSuccess), [true, false, true])
      assert.strictEqual(Result.getOrThrow(Result.flip(all[1]!)).line, 2)
    })
  )

  for (const form of ["standard", "conversational"] as const) {
    it.effect(`Trl: all shapes are written and read, ${form}`, () =>
      Effect.gen(function* () {
        const file = yield* temporary("trl.jsonl")
        const written: ReadonlyArray<Trl.Row> = [
          Trl.languageModelling(form)(one),
          Trl.promptOnly(form)(prompt),
          Trl.promptCompletion(form)(one),
          get(Trl.preference(form, { margin: true })(preference(0.2))),
          get(Trl.preference(form, { implicit: true, margin: true })(preference(0.2))),
          ...Trl.unpairedPreference(form)(preference(0.2))
        ]
        assert.deepStrictEqual(
          written.map((row) => Object.keys(row).join()),
          [
            form === "standard" ? "text" : "messages",
            "prompt",
            "prompt,completion",
            "prompt,chosen,rejected,margin",
            "chosen,rejected,margin",
            "prompt,completion,label",
            "prompt,completion,label"
          ]
        )
        yield* Stream.fromIterable(written).pipe(Jsonl.write(file))
        const rows = yield* Jsonl.read(file).pipe(
          Rows.decode(file, Trl.decode),
          Rows.onReject(Effect.die),
          Stream.runCollect
        )
        assert.deepStrictEqual(rows, written)
        const answer = (text: string) => (form === "standard" ? ` ${text}` : text)
        const context = form === "standard" ? Trl.promptOnly(form)(prompt) : { prompt: { messages: prompt.messages } }
        assert.deepStrictEqual(
          rows.map(Trl.example).map((found) => {
            if (Result.isFailure(found)) return found.failure
            assert.deepStrictEqual<unknown>({ prompt: found.success.context }, context)
            return found.success.completion
          }),
          [
            answer("Call a locksmith, 1."),
            "a prompt without an answer",
            answer("Call a locksmith, 1."),
            answer("Call a locksmith."),
            answer("Call a locksmith."),
            answer("Call a locksmith."),
            "labelled as a bad answer"
          ]
        )
        for (const row of rows.slice(3, 5)) {
          const pair = get(Trl.preferenceExample(row))
          assert.deepStrictEqual<unknown>({ prompt: pair.context }, context)
          assert.deepStrictEqual([pair.first, pair.second], [answer("Call a locksmith."), answer("With a pin.")])
          assert.closeTo(pair.probability, 0.8, 1e-12)
        }
      })
    )
  }

  it.effect("Trl: what fits no shape says why; a tie has no chosen answer", () =>
    Effect.sync(() => {
      const reason = (row: Rows.Row) => get(Result.flip(Trl.decode(row)))
      assert.include(reason({ other: 1 }), "none of the shapes")
      assert.include(reason({ prompt: 1 }), "`prompt` is neither")
      assert.include(reason({ prompt: "a", completion: [] }), "some of its columns")
      assert.include(reason({ prompt: "a", completion: "b", label: 1 }), "`label` is neither")
      assert.include(reason({ messages: [{ role: "tool", content: "x" }] }), "message 1 of `messages` has the role")
      assert.isTrue(Result.isFailure(Trl.preference("standard")(preference(0.5))))
      assert.deepStrictEqual(Trl.unpairedPreference("standard")(preference(0.5)), [])
    })
  )

  it.effect("Trl: conversations share their prompt whatever else their messages have, in whichever order", () =>
    Effect.sync(() => {
      const answer = (content: string) => ({ role: "assistant", content })
      const row = get(
        Trl.decode({
          chosen: [{ role: "user", content: "Why?" }, answer("So.")],
          rejected: [{ content: "Why?", role: "user", name: "Ann" }, answer("No.")]
        })
      )
      const { context, first, second } = get(Trl.preferenceExample(row))
      assert.deepStrictEqual(
        [context, first, second],
        [{ messages: [{ role: "user", content: "Why?" }] }, "So.", "No."]
      )
    })
  )

  it.effect("Trl: answers that begin with their prompt count alone where that stands beside them in another form", () =>
    Effect.gen(function* () {
      const file = yield* temporary("cai.parquet")
      yield* Stream.make(CaiConversations.fromRevision(one)).pipe(CaiConversations.write(file))
      const rows = yield* Parquet.read(file).pipe(
        Rows.decode(file, Trl.decode),
        Rows.onReject(Effect.die),
        Stream.runCollect
      )
      const { context, first, second } = get(Trl.preferenceExample(rows[0]!))
      assert.deepStrictEqual<unknown>(
        [context, first, second],
        [{ messages: prompt.messages }, "Call a locksmith, 1.", "With a pin."]
      )
      assert.deepStrictEqual(get(Trl.example(rows[0]!)).completion, "Call a locksmith, 1.")
      const text = { prompt: [{ role: "user", content: "Sky?" }], chosen: "Sky? Blue.", rejected: "Sky? Green." }
      assert.deepStrictEqual(get(Trl.compared(get(Trl.decode(text)))), {
        prompt: "Sky?",
        chosen: " Blue.",
        rejected: " Green."
      })
    })
  )

  it.effect("Trl: a transcript ends with an answer; what a person says after it is not learnt", () =>
    Effect.sync(() => {
      const whole = "Human: one\n\nAssistant: two"
      const more = `${whole}\n\nHuman: three`
      const said = Result.fail("the transcript goes on with \\n\\nHuman: after its last answer")
      assert.deepStrictEqual(Trl.example({ text: more }), said)
      assert.deepStrictEqual(Trl.preferenceExample({ chosen: more, rejected: `${whole} and a half` }), said)
      assert.deepStrictEqual(Trl.preferenceExample({ chosen: whole.replace("two", "2"), rejected: more }), said)
      assert.deepStrictEqual(get(Trl.example({ text: `${more}\n\nAssistant: four` })).completion, " four")
    })
  )

  it.effect("Trl: two texts share the prompt that TRL finds in them, up to where they differ", () =>
    Effect.sync(() => {
      const found = (chosen: string, rejected: string) =>
        Result.map(Trl.preferenceExample({ chosen, rejected }), (pair): ReadonlyArray<unknown> => [
          pair.context,
          pair.first,
          pair.second
        ])
      const cases: ReadonlyArray<readonly [string, string, ReadonlyArray<string>]> = [
        ["The sky is blue.", "The sky is green.", ["The sky is", " blue.", " green."]],
        ["The sky is blue.", "The sky isn't.", ["The sky is", " blue.", "n't."]],
        ["So it is", "So it", ["So i", "t is", "t"]],
        ["Yes 😀", "Yes 😁", ["Yes", " 😀", " 😁"]],
        ["Yes:😀", "Yes:😁", ["Yes:", "😀", "😁"]]
      ]
      for (const [chosen, rejected, parts] of cases) {
        assert.deepStrictEqual(found(chosen, rejected), Result.succeed(parts))
      }
      const none = Result.fail("`chosen` and `rejected` do not share their prompt")
      assert.deepStrictEqual(found("Blue.", "Green."), none)
      assert.deepStrictEqual(
        found("Human: Is it blue?\n\nAssistant: Yes.", "Human: Is it green?\n\nAssistant: No."),
        none
      )
    })
  )
})
