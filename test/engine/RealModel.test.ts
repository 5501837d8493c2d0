import { describe, expect, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import fs from "node:fs"
import * as Decoder from "../../src/engine/Decoder.ts"
import * as Scorer from "../../src/engine/Scorer.ts"
import * as ChatTemplate from "../../src/model/ChatTemplate.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Tokenizer from "../../src/model/Tokenizer.ts"
import { softmax } from "../../src/providers/onnx/OnnxDecisionModel.ts"
import { dir, exists } from "../model/realModel.ts"
import * as Golden from "./golden.ts"

const fixture = JSON.parse(fs.readFileSync(new URL("../fixtures/smollm2.json", import.meta.url), "utf8"))

describe.skipIf(!exists)("SmolLM2-135M-Instruct against transformers", () => {
  it.live("scores texts within 2e-3 of its log-probabilities", () =>
    Effect.gen(function* () {
      const checkpoint = yield* Checkpoint.open(dir)
      const scorer = yield* Scorer.make(checkpoint, { maxTokens: 2048 })
      for (const { ids, token_logprobs } of fixture.score) {
        const at = ids.slice(1).map((_: number, t: number) => t)
        const ours = yield* scorer.score({ ids, adapter: undefined, kind: "logprobs", at, targets: ids.slice(1) })
        expect(Golden.distance(ours, token_logprobs)).toBeLessThan(2e-3)
      }
    })
  )

  it.live("chooses between options with the same probabilities within 1e-3", () =>
    Effect.gen(function* () {
      const checkpoint = yield* Checkpoint.open(dir)
      const tokenizer = yield* Tokenizer.load(dir)
      const scorer = yield* Scorer.make(checkpoint, { maxTokens: 2048 })
      const { logprobs, options, probabilities, prompt } = fixture.choice
      const ids = tokenizer.encode(prompt)
      const ours = yield* Effect.forEach(options as Array<string>, (option) => {
        const targets = tokenizer.encode(option)
        const at = targets.map((_, t) => ids.length + t - 1)
        return scorer
          .score({ ids: [...ids, ...targets], adapter: undefined, kind: "logprobs", at, targets })
          .pipe(Effect.map((each) => each.reduce((a, b) => a + b, 0)))
      })
      expect(Golden.distance(ours, logprobs)).toBeLessThan(2e-3)
      expect(Golden.distance(softmax(ours), probabilities)).toBeLessThan(1e-3)
    })
  )

  it.live("continues chats greedily with exactly its tokens and text", () =>
    Effect.gen(function* () {
      const checkpoint = yield* Checkpoint.open(dir)
      const tokenizer = yield* Tokenizer.load(dir)
      const template = Option.getOrThrow(yield* ChatTemplate.load(dir))
      const decoder = yield* Decoder.make(checkpoint, { memory: 2e8, maxRows: 4 })
      for (const { ids, messages, text } of fixture.greedy) {
        const prompt = yield* template.render(messages, { addGenerationPrompt: true })
        const { tokenIds } = yield* decoder.generate({
          id: "greedy",
          ids: tokenizer.encode(prompt),
          adapter: undefined,
          seed: 0,
          maxTokens: ids.length,
          temperature: 0,
          stopIds: new Set(checkpoint.eosTokenIds)
        })
        expect(tokenIds).toEqual(ids)
        expect(tokenizer.decode(tokenIds, { skipSpecialTokens: true })).toBe(text)
      }
    })
  )

  it.live("samples the same bits alone and together, long and short prompts", () =>
    Effect.gen(function* () {
      const checkpoint = yield* Checkpoint.open(dir)
      const decoder = yield* Decoder.make(checkpoint, { memory: 1e9, maxRows: 8 })
      const requests = [3, 20, 70, 9, 70, 33].map((length, i) => ({
        id: `sample ${i}`,
        ids: Array.from({ length }, (_, t) => 100 + ((i * 977 + t * 131) % 40_000)),
        adapter: undefined,
        seed: 1,
        maxTokens: 6,
        temperature: 1,
        stopIds: new Set<number>()
      }))
      const together = yield* Effect.forEach(requests, decoder.generate, { concurrency: "unbounded" })
      expect(yield* Effect.forEach(requests, decoder.generate)).toEqual(together)
    })
  )
})
