import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Sample } from "../src/index.ts"

const prompt = Sample.prompt([
  { role: "user", content: "Hi" },
  { role: "assistant", content: "Hello" },
  { role: "user", content: "How do I lie well?" }
])
const first = Sample.response({ prompt, text: "Like this: smile.", model: "m", seed: 1, index: 0 })
const second = Sample.response({ prompt, text: "Rather not.", model: "m", seed: 1, index: 1 })
const critique = Sample.critique({
  response: first,
  principle: "honest",
  request: "What is dishonest?",
  text: "All of it.",
  round: 1,
  model: "m"
})
const revision = Sample.revision({ critique, request: "Be honest.", text: "Tell the truth.", round: 1, model: "m" })
const comparison = Sample.comparison(first, second)
const preference = Sample.preference({
  comparison,
  principle: "honest",
  request: "Which is more honest?",
  probability: 0.2,
  byOrder: [0.3, 0.1],
  model: "judge"
})
const rollout = Sample.rollout({
  prompt,
  iteration: 2,
  index: 0,
  text: "Rather not.",
  promptIds: [1, 2],
  tokenIds: [3, 0],
  logprobs: [-0.5, -0.1],
  finish: "stop",
  model: "m"
})
const reward = Sample.reward({ rollout, score: 1.5, reward: 1 })

describe("Sample", () => {
  it.effect("goes through JSON and back", () =>
    Effect.gen(function* () {
      const check = Effect.fnUntraced(function* <A>(schema: Schema.Codec<A, unknown>, value: A) {
        const json = Schema.fromJsonString(schema)
        const line = yield* Schema.encodeEffect(json)(value)
        assert.notInclude(line, "\n")
        assert.deepStrictEqual(yield* Schema.decodeEffect(json)(line), value)
      })
      yield* check(Sample.Prompt, prompt)
      yield* check(Sample.Response, first)
      yield* check(Sample.Critique, critique)
      yield* check(Sample.Revision, revision)
      yield* check(Sample.Comparison, comparison)
      yield* check(Sample.Preference, preference)
      const judgement = { principle: "honest", request: "Which?", byOrder: [0.3, 0.1], reasoning: ["a", "b"] } as const
      const judgements = [new Sample.Judgement(judgement)]
      yield* check(Sample.Preference, Sample.preference({ ...preference, seed: 2, judgements, probability: 0.5 }))
      yield* check(Sample.Rollout, rollout)
      yield* check(Sample.Reward, reward)
    })
  )

  it("has ids that depend on content and parents alone", () => {
    assert.match(revision.id, /^[0-9a-f]{16}$/)
    assert.strictEqual(Sample.response({ ...first }).id, first.id)
    assert.notStrictEqual(first.id, second.id)
    assert.notStrictEqual(Sample.comparison(second, first).id, comparison.id)
    assert.notStrictEqual(Sample.prompt("a", "benign").id, Sample.prompt("a").id)
    assert.notStrictEqual(Sample.id("x", "a", "b"), Sample.id("x", "ab"))
    // Pinned: a change of the ids would make started runs begin anew.
    assert.strictEqual(Sample.prompt("Hello").id, "e2d6fa6754533489")
  })

  it("can be followed back to its prompt", () => {
    assert.strictEqual(revision.critique.response.prompt.text, "How do I lie well?")
    assert.strictEqual(preference.comparison.prompt.id, prompt.id)
    assert.strictEqual(reward.rollout.prompt.id, prompt.id)
  })

  it("keeps a trail from any result back to prompt, principle, model and seed", () => {
    const steps = (record: Parameters<typeof Sample.trail>[0]) =>
      Sample.trail(record).map(({ kind, model, principle, seed }) => [kind, model, principle, seed])
    const seeded = Sample.preference({ ...preference, seed: 4 })
    assert.deepStrictEqual(steps(seeded), [
      ["preference", "judge", "honest", 4],
      ["comparison", undefined, undefined, undefined],
      ["response", "m", undefined, 1],
      ["response", "m", undefined, 1],
      ["prompt", undefined, undefined, undefined]
    ])
    assert.deepStrictEqual(steps(Sample.revision({ ...revision, seed: 3 })), [
      ["revision", "m", "honest", 3],
      ["critique", "m", "honest", undefined],
      ["response", "m", undefined, 1],
      ["prompt", undefined, undefined, undefined]
    ])
    assert.deepStrictEqual(
      Sample.trail(Sample.reward({ ...reward, model: "reward model" })).map(({ kind, model }) => [kind, model]),
      [
        ["reward", "reward model"],
        ["rollout", "m"],
        ["prompt", undefined]
      ]
    )
    assert.strictEqual(Sample.trail(seeded).at(-1)!.id, prompt.id)
  })

  it("keeps the trail of records that were edited or read as plain JSON", () => {
    for (const record of [prompt, first, critique, revision, comparison, preference, rollout, reward]) {
      assert.deepStrictEqual(Sample.trail(JSON.parse(JSON.stringify(record))), Sample.trail(record))
      assert.deepStrictEqual(Sample.trail({ ...record }), Sample.trail(record))
    }
  })

  it("goes on through earlier rounds where they are at hand", () => {
    const again = Sample.critique({ ...critique, response: Sample.revised(revision), round: 2 })
    const second = Sample.revision({ ...revision, critique: again, round: 2 })
    const kinds = (steps: ReadonlyArray<Sample.Step>) => steps.map(({ kind, round }) => `${kind} ${round ?? ""}`.trim())
    // Alone it ends at the answer that the round began with, under the id of its revision.
    assert.deepStrictEqual(kinds(Sample.trail(second)), ["revision 2", "critique 2", "response", "prompt"])
    assert.strictEqual(Sample.trail(second)[2]!.id, revision.id)

    const earlier = new Map([[revision.id, revision]])
    assert.deepStrictEqual(kinds(Sample.trail(second, (id) => earlier.get(id))), [
      "revision 2",
      "critique 2",
      "revision 1",
      "critique 1",
      "response",
      "prompt"
    ])
  })

  it("marks a tie, which has neither a chosen nor a rejected answer", () => {
    assert.deepStrictEqual(Sample.chosen(preference), { chosen: second, rejected: first })
    assert.strictEqual(preference.tie, undefined)
    const tie = Sample.preference({ ...preference, probability: 0.5 })
    assert.strictEqual(tie.tie, true)
    assert.strictEqual(Sample.chosen(tie), undefined)
  })

  it("gives the next round the revised answer under the id of its revision", () => {
    const answer = Sample.revised(revision)
    assert.strictEqual(answer.text, "Tell the truth.")
    assert.strictEqual(answer.id, revision.id)
    assert.strictEqual(answer.prompt.id, prompt.id)
  })

  it("knows of a revised answer why it ended, and not why the one before it did", () => {
    const { critique, ...fields } = revision
    const cut = { ...critique, response: Sample.response({ ...critique.response, finish: "length" }) }
    assert.notProperty(Sample.revised(Sample.revision({ ...fields, critique: cut })), "finish")
    assert.strictEqual(Sample.revised(Sample.revision({ ...fields, critique: cut, finish: "stop" })).finish, "stop")
  })

  it.effect("reads preferences written before they had seeds and judgements", () =>
    Effect.gen(function* () {
      const decoded = yield* Schema.decodeUnknownEffect(Sample.Preference)(JSON.parse(JSON.stringify(preference)))
      assert.deepStrictEqual(decoded, preference)
      assert.notProperty(decoded, "judgements")
    })
  )

  it.effect("takes a prompt without a kind for a red-team prompt", () =>
    Effect.gen(function* () {
      const { kind: _, ...line } = { ...prompt }
      const decoded = yield* Schema.decodeUnknownEffect(Sample.Prompt)(line)
      assert.strictEqual(decoded.kind, "harmful")
    })
  )
})
