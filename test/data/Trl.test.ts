import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import type * as Rows from "../../src/data/Rows.ts"
import * as Trl from "../../src/data/Trl.ts"
import * as Sample from "../../src/Sample.ts"

const user = { role: "user", content: "Why?" } as const
const answer = (content: string) => ({ role: "assistant", content }) as const
const pair = { prompt: "Q", chosen: "good", rejected: "bad" }

/** The row of a shape, or why it is none. */
const decoded = (row: Rows.Row) => Result.merge(Trl.decode(row))

describe("a row's shape", () => {
  it("is the one with the most of its columns; null is a column that is not there, and others are left out", () => {
    assert.deepStrictEqual<unknown>(decoded({ ...pair, other: 1 }), pair)
    assert.deepStrictEqual<unknown>(decoded({ ...pair, prompt: null }), { chosen: "good", rejected: "bad" })
    assert.deepStrictEqual<unknown>(decoded({ ...pair, chosen: null, completion: "c", label: null }), {
      prompt: "Q",
      completion: "c"
    })
    assert.deepStrictEqual<unknown>(decoded({ prompt: "Q", rejected: "bad", text: "T" }), { text: "T" })
    assert.deepStrictEqual<unknown>(decoded({ prompt: "Q", messages: [user], text: "T" }), { messages: [user] })
  })

  it("has a margin where it is a preference, if one is given", () => {
    assert.deepStrictEqual<unknown>(decoded({ ...pair, margin: -1.5 }), { ...pair, margin: -1.5 })
    assert.deepStrictEqual<unknown>(decoded({ ...pair, margin: 0 }), { ...pair, margin: 0 })
    assert.deepStrictEqual<unknown>(decoded({ ...pair, margin: null }), pair)
    assert.deepStrictEqual<unknown>(decoded({ prompt: "Q", margin: "x" }), { prompt: "Q" })
    for (const margin of ["1", NaN, Infinity]) {
      assert.strictEqual(decoded({ ...pair, margin }), "`margin` is not a finite number")
    }
  })

  it("is none where the prompt of two answers has another name", () => {
    const two = { chosen: "The sky.", rejected: "The sea." }
    const said = "the prompt is in `question`, which is not read; name it `prompt`"
    assert.strictEqual(decoded({ system: "Be brief.", question: "What is blue?", ...two }), said)
    assert.deepStrictEqual<unknown>(decoded({ ...two, question: null, input: "" }), two)
    // What a transcript or a conversation is about stands in itself.
    const whole = { chosen: "\n\nHuman: Q\n\nAssistant: a", rejected: "\n\nHuman: Q\n\nAssistant: b" }
    assert.deepStrictEqual<unknown>(decoded({ ...whole, question: "Q" }), whole)
    const messages = { chosen: [user, answer("a")], rejected: [user, answer("b")] }
    assert.deepStrictEqual<unknown>(decoded({ ...messages, instruction: "Why?" }), messages)
  })

  it("is none where a column is of the wrong kind, or some are texts and some messages", () => {
    assert.strictEqual(decoded({ text: [user] }), "`text` is not text")
    assert.strictEqual(decoded({ prompt: [] }), "`prompt` has no messages")
    const mixed = "some of its columns are texts and some messages"
    assert.strictEqual(decoded({ prompt: [user], completion: "c" }), mixed)
    assert.strictEqual(decoded({ chosen: [user, answer("a")], rejected: "b" }), mixed)
    assert.strictEqual(decoded({ prompt: "Q", chosen: [user, answer("a")], rejected: "b" }), mixed)
  })
})

describe("the answer of a row", () => {
  const answered = (row: Rows.Row) =>
    Result.merge(Result.map(Result.flatMap(Trl.decode(row), Trl.answered), (found) => [found.prompt, found.answer]))

  it("is what its shape says, behind its prompt", () => {
    assert.deepStrictEqual(answered(pair), ["Q", "good"])
    assert.deepStrictEqual(answered({ prompt: "Q", completion: "c", label: true }), ["Q", "c"])
    assert.deepStrictEqual(answered({ messages: [user, answer("So.")] }), [[user], answer("So.")])
    assert.deepStrictEqual(answered({ chosen: [user, answer("So.")], rejected: [answer("x")] }), [
      [user],
      answer("So.")
    ])
    // A text that is no transcript is learnt from its beginning.
    assert.deepStrictEqual(answered({ text: "Once." }), ["", "Once."])
  })

  it("is none, and says why", () => {
    assert.strictEqual(answered({ prompt: "Q" }), "a prompt without an answer")
    assert.strictEqual(answered({ prompt: "Q", completion: "c", label: false }), "labelled as a bad answer")
    assert.strictEqual(answered({ prompt: "Q", completion: "" }), "the completion is empty")
    assert.strictEqual(answered({ text: "" }), "the completion is empty")
    assert.strictEqual(answered({ text: "Human: hello" }), "the text has no \\n\\nAssistant:")
    const two = "the answer is not one message of the assistant"
    assert.strictEqual(answered({ prompt: [user], completion: [answer("a"), answer("b")] }), two)
    assert.strictEqual(answered({ prompt: [user], completion: [user] }), two)
    assert.strictEqual(answered({ prompt: [user], completion: [] }), two)
    const open = "the conversation does not end with a message of the assistant"
    assert.strictEqual(answered({ messages: [user, answer("a"), user] }), open)
    assert.strictEqual(answered({ messages: [] }), open)
    const alone = "the conversation has no message before its answer"
    assert.strictEqual(answered({ messages: [answer("a")] }), alone)
    assert.strictEqual(answered({ chosen: [answer("a")], rejected: [answer("b")] }), alone)
  })
})

describe("an answer that was cut off", () => {
  const finishOf = (row: Rows.Row) => {
    const found = Result.merge(Result.flatMap(Trl.decode(row), Trl.example))
    return typeof found === "string" ? found : (found.finish ?? "stop")
  }

  it("is learnt without an end", () => {
    const row = { prompt: "Q", completion: " Once upon a" }
    assert.deepStrictEqual([finishOf({ ...row, finish: "length" }), finishOf(row)], ["length", "stop"])
    for (const finish of ["stop", null, 3]) assert.strictEqual(finishOf({ ...row, finish }), "stop")
  })

  it("is told by the row of a revision, and so is one that ended: all rows have the same columns", () => {
    const prompt = Sample.prompt("Why?")
    const from = { model: "m", seed: 0, principle: "p", request: "Rewrite.", round: 1 }
    const response = Sample.response({ prompt, text: "Because.", index: 0, model: "m", seed: 0 })
    const critique = Sample.critique({ ...from, response, text: "Rude." })
    for (const form of ["standard", "conversational"] as const) {
      for (const write of [Trl.promptCompletion(form), Trl.languageModelling(form)]) {
        const rows = (["length", "stop"] as const).map((finish) =>
          write(Sample.revision({ ...from, critique, text: "As I", finish }))
        )
        assert.deepStrictEqual(
          rows.map(({ finish }) => finish),
          ["length", "stop"]
        )
        assert.deepStrictEqual(
          rows.map((row) => finishOf({ ...row })),
          ["length", "stop"]
        )
        assert.deepStrictEqual<unknown>(
          rows.map((row) => decoded({ ...row })),
          rows
        )
      }
    }
  })
})

describe("a preference's example", () => {
  const example = (row: Rows.Row) => Result.merge(Result.flatMap(Trl.decode(row), Trl.preferenceExample))

  it("has the probability that the margin is the log-odds of; without one the chosen answer is certain", () => {
    const probability = (margin?: number) => {
      const found = example(margin === undefined ? pair : { ...pair, margin })
      return typeof found === "string" ? found : found.probability
    }
    assert.deepStrictEqual([probability(), probability(0)], [1, 0.5])
    assert.closeTo(Number(probability(Math.log(4))), 0.8, 1e-12)
    assert.closeTo(Number(probability(-Math.log(4))), 0.2, 1e-12)
  })

  it("needs two answers to one prompt", () => {
    assert.strictEqual(example({ prompt: "Q", completion: "c" }), "not a preference: no `chosen` with `rejected`")
    assert.strictEqual(example({ ...pair, rejected: "" }), "the completion is empty")
    const none = "`chosen` and `rejected` do not share their prompt"
    const chosen = [user, answer("a")]
    assert.strictEqual(example({ chosen, rejected: [user, user, answer("b")] }), none)
    assert.strictEqual(example({ chosen, rejected: [{ ...user, content: "How?" }, answer("b")] }), none)
    assert.strictEqual(example({ chosen: [answer("a")], rejected: [answer("b")] }), none)
  })

  it("is known by its prompt and both answers, in their order", () => {
    const idOf = (row: Rows.Row) => {
      const found = example(row)
      return typeof found === "string" ? found : found.id
    }
    const ids = [pair, { ...pair, prompt: "R" }, { ...pair, chosen: "bad", rejected: "good" }, { ...pair, chosen: "x" }]
    assert.strictEqual(new Set(ids.map(idOf)).size, 4)
    assert.strictEqual(idOf({ ...pair, margin: 1 }), idOf(pair))
  })
})

describe("a judge's label as a row", () => {
  const prompt = Sample.prompt("Why?")
  const response = (text: string, index: number) => Sample.response({ prompt, text, model: "m", seed: 0, index })
  const label = (probability: number) =>
    Sample.preference({
      comparison: Sample.comparison(response("first", 0), response("second", 1)),
      principle: "p",
      request: "Which?",
      probability,
      byOrder: [probability],
      model: "m"
    })
  const row = (probability: number) =>
    Result.getOrThrow(Trl.preference("conversational", { margin: true })(label(probability)))

  it("has the likelier answer as the chosen one, and how much likelier as its margin", () => {
    const chosen = (probability: number) => ("chosen" in row(probability) ? row(probability) : undefined)
    assert.deepInclude(chosen(0.75), { chosen: [answer("first")], rejected: [answer("second")] })
    assert.deepInclude(chosen(0.25), { chosen: [answer("second")], rejected: [answer("first")] })
    const margins = [0, 0.25, 0.5, 0.75, 1].map((probability) => ({ margin: NaN, ...row(probability) }).margin)
    const certain = Math.log(999_999)
    for (const [i, margin] of [certain, Math.log(3), 0, Math.log(3), certain].entries()) {
      assert.closeTo(margins[i]!, margin, 1e-9)
    }
  })

  it("is two rows where answers stand alone, the good one first", () => {
    const labels = (probability: number) =>
      Trl.unpairedPreference("conversational")(label(probability)).map((row) =>
        "label" in row ? [row.completion, row.label] : row
      )
    assert.deepStrictEqual(labels(0.75), [
      [[answer("first")], true],
      [[answer("second")], false]
    ])
    assert.deepStrictEqual(labels(0.25), [
      [[answer("second")], true],
      [[answer("first")], false]
    ])
  })
})
