/**
 * Mistakes that other pipelines of learning made, each with a test that would catch it here. Resuming (5) and the reward
 * head (4) are in `test/cli/TrainPolicy.test.ts`.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as TrainRows from "../../src/cli/TrainRows.ts"
import * as Batch from "../../src/engine/Batch.ts"
import * as Kl from "../../src/engine/Kl.ts"
import * as Training from "../../src/engine/Training.ts"
import * as TrainingData from "../../src/engine/TrainingData.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as ChatTemplate from "../../src/model/ChatTemplate.ts"
import * as Session from "../../src/onnx/Session.ts"
import * as TextCodec from "../../src/providers/onnx/TextCodec.ts"
import * as Tokenizer from "../../src/model/Tokenizer.ts"

const sandbox = new URL("../../assets/sandbox", import.meta.url).pathname

/** The sandbox model's tokens, with a chat template of the usual kind. */
const encoder = Effect.gen(function* () {
  const checkpoint = yield* Checkpoint.open(sandbox)
  const tokenizer = yield* Tokenizer.load(sandbox)
  const template = yield* ChatTemplate.make(
    "{% for m in messages %}\n\n{{ 'Human' if m.role == 'user' else 'Assistant' }}: {{ m.content }}{% endfor %}{% if add_generation_prompt %}\n\nAssistant:{% endif %}",
    "template"
  )
  const plain = yield* TextCodec.load(checkpoint)
  const codec: TextCodec.TextCodec = {
    ...plain,
    chat: true,
    context: (id, context) =>
      typeof context === "string"
        ? plain.context(id, context)
        : Effect.map(Effect.orDie(template.render(context.messages, { addGenerationPrompt: true })), tokenizer.encode)
  }
  return { encoder: { checkpoint, codec: Option.some(codec), maxLength: 200 }, tokenizer, checkpoint }
})

const learnt = (row: { readonly ids: ReadonlyArray<number>; readonly weights: ArrayLike<number> }) =>
  row.ids.filter((_, t) => row.weights[t] !== 0)

describe("mistakes that other pipelines made", () => {
  it.effect("2: the loss mask is silently all zero, or the stop token is outside of it", () =>
    Effect.gen(function* () {
      const { checkpoint, encoder: with_, tokenizer } = yield* encoder
      const row = yield* TrainRows.example(with_)({ prompt: "how do i bake a cake ?", completion: " yes ." })
      // What is learnt is the completion and the token that ends it.
      expect(learnt(row)).toEqual([...tokenizer.encode(" yes ."), checkpoint.eosTokenIds[0]])
      const { feeds } = Batch.supervised([row], Batch.totalWeight([row]))
      const targets = Array.from(feeds["targets"]!.data as BigInt64Array, Number)
      expect(targets.at(-1)).toBe(checkpoint.eosTokenIds[0])
      const weights = Session.floats(feeds["weights"]!)
      expect(weights.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 6)
      const nothing = yield* Effect.flip(TrainRows.example(with_)({ input_ids: [3, 4], labels: [-100, -100] }))
      expect(nothing).toContain("its mask has nothing in it")
    })
  )

  it.effect("3: the labels of conversational data are wrong", () =>
    Effect.gen(function* () {
      const { checkpoint, encoder: with_, tokenizer } = yield* encoder
      const user = { role: "user", content: "how do i bake a cake ?" }
      const assistant = { role: "assistant", content: " yes ." }
      const earlier = [{ role: "user", content: "hello" }, { role: "assistant", content: " hi ." }, user]
      const expected = [...tokenizer.encode(" yes ."), checkpoint.eosTokenIds[0]]
      for (const row of [
        { prompt: [user], completion: [assistant] },
        { messages: [user, assistant] },
        // Only the last answer is learnt, whatever was said before.
        { messages: [...earlier, assistant] },
        { prompt: earlier, completion: [assistant] }
      ]) {
        const made = yield* TrainRows.example(with_)(row)
        expect(learnt(made)).toEqual(expected)
        // One stretch at the end: no token of the prompt, none of the completion missing.
        expect(Array.from(made.weights)).toEqual(
          made.ids.map((_, t) => (t < made.ids.length - expected.length ? 0 : 1))
        )
        expect(tokenizer.decode(made.ids.slice(0, -expected.length))).toMatch(/cake \?\s*Assistant:$/)
      }
      const pair = yield* TrainRows.pair(
        with_,
        "dpo"
      )({
        prompt: [user],
        chosen: [assistant],
        rejected: [{ ...assistant, content: " no ." }]
      })
      expect(pair.first.slice(pair.from)).toEqual(expected)
      expect(pair.second.slice(pair.from)).toEqual([...tokenizer.encode(" no ."), checkpoint.eosTokenIds[0]])
    })
  )

  it("8: the last partial batch is dropped", () => {
    const rows = Array.from({ length: 10 }, (_, i) => i)
    const how = { batchSize: 4, seed: 1 }
    expect(Training.stepsOf(rows.length, { ...how, epochs: 2 })).toBe(6)
    for (const epoch of [0, 1]) {
      const used = [0, 1, 2].flatMap((i) => Training.batches(rows, how)(3 * epoch + i))
      expect(used.toSorted((a, b) => a - b)).toEqual(rows)
    }
  })

  it.effect("8: a tie picks one of a pair: it is learnt as a tie, whichever stands first", () =>
    Effect.gen(function* () {
      const pairs = [0.5, 1, 0].map((probability, i) => ({
        id: `${i}`,
        first: [5, 6 + i],
        second: [5, 9 + i],
        probability
      }))
      const [batch] = yield* TrainingData.preferences(pairs, { microTokens: 100 }).collate(pairs)
      expect(Array.from(Session.floats(batch!.feeds["target"]!))).toEqual([0.5, 1, 0])
      const { encoder: with_ } = yield* encoder
      const row = { chosen_input_ids: [5, 6], rejected_input_ids: [5, 7], probability: 0.5 }
      expect((yield* TrainRows.pair(with_, "dpo")(row)).probability).toBe(0.5)
    })
  )

  it("11: a negative KL is warned of without a diagnosis", () => {
    // Answers sampled at a low temperature are likelier than the policy at temperature 1 says.
    const cold = Array.from({ length: 32 }, (_, i) => -2 - 0.01 * i)
    expect(Kl.diagnose(cold, 16, 0)).toContain("low temperature")
    expect(Kl.diagnose(cold, 16, 0.5)).toContain("not sampled from the policy that learns")
    // The estimate that is reported beside it is never negative.
    expect(Kl.total("k3", [-1, -2], [-0.5, -3])).toBeGreaterThanOrEqual(0)
  })
})
