/**
 * TrainAnswers: what reinforcement learning learns from: answers of the policy with their rewards, update by update.
 */
import { Effect, Option } from "effect"
import type * as Adapters from "../engine/Adapters.ts"
import * as Decoder from "../engine/Decoder.ts"
import type * as Forward from "../engine/Forward.ts"
import * as Rollouts from "../engine/Rollouts.ts"
import * as Training from "../engine/Training.ts"
import type { Checkpoint } from "../model/Checkpoint.ts"
import type * as TextCodec from "../providers/onnx/TextCodec.ts"
import * as Random from "../Random.ts"
import * as Reward from "../stages/Reward.ts"
import type * as RolloutLog from "./RolloutLog.ts"

/** Who answers, and who judges. */
export interface Models {
  readonly checkpoint: Checkpoint
  readonly codec: Option.Option<TextCodec.TextCodec>
  readonly policy: Adapters.Adapter
  readonly decoder: Decoder.Decoder
  readonly judge: Adapters.Adapter
  /** Over the model that the judge is an adapter of. */
  readonly judging: Forward.Forward
}

/** How answers are sampled and rewarded. */
export interface Options {
  readonly batchSize: number
  readonly samples: number
  readonly maxTokens: number
  readonly temperature: number
  readonly rewardClip: number | null
  readonly missingStopPenalty: number
  readonly seed: number
}

/** A prompt's tokens and its name. */
export interface Prompt {
  readonly id: string
  readonly ids: ReadonlyArray<number>
}

/** Bytes of keys and values of the answers under way. */
const usualMemory = 2 ** 29

/**
 * Bytes that keys and values may take: what is usual, or more where the longest of the prompts would be refused its
 * answer. A model whose heads share no keys has a few hundred kilobytes of them for each token.
 */
export const cacheMemory = (
  { config }: Pick<Checkpoint, "config">,
  prompts: ReadonlyArray<Prompt>,
  maxTokens: number
): number =>
  prompts.reduce((most, { ids }) => Math.max(most, Decoder.leastMemory(config, { ids, maxTokens })), usualMemory)

/** The answers of the update `index` (from 0): those of the log, or new ones, which are written there. */
export const from = (
  { checkpoint, codec, decoder, judge, judging, policy }: Models,
  prompts: ReadonlyArray<Prompt>,
  log: RolloutLog.RolloutLog,
  options: Options
) => {
  const perUpdate = options.batchSize / options.samples
  // Epoch after epoch of single prompts: no update is smaller than the others, and no prompt is left out.
  const turnOf = Training.batches(prompts, { batchSize: 1, seed: options.seed })
  const stopIds = new Set(checkpoint.eosTokenIds)
  const bounds = { clamp: options.rewardClip ?? undefined, missingStopPenalty: options.missingStopPenalty }
  const end = Option.match(codec, {
    onNone: () => checkpoint.eosTokenIds.slice(0, 1),
    onSome: ({ completion }) => completion("")
  })
  return Effect.fnUntraced(function* (index: number) {
    const wanted = Array.from({ length: perUpdate }, (_, p) => {
      const [prompt] = turnOf(index * perUpdate + p)
      return Array.from({ length: options.samples }, (_, i) => ({
        prompt: prompt!,
        id: `${index + 1}/${p}/${prompt!.id}/${i}`
      }))
    }).flat()
    const kept = log.of(index + 1)
    if (kept.length === wanted.length) {
      yield* log.append(kept)
      return kept
    }
    const sampled = yield* Effect.forEach(
      wanted,
      ({ id, prompt }) =>
        Effect.map(
          decoder.generate({
            id,
            ids: prompt.ids,
            adapter: policy,
            seed: Random.hash(options.seed, "rollout"),
            maxTokens: options.maxTokens,
            temperature: options.temperature,
            stopIds
          }),
          ({ finish, logprobs, tokenIds }) => ({ id, promptIds: prompt.ids, tokenIds, logprobs, finish })
        ),
      { concurrency: "unbounded" }
    )
    // A score is read on the end token with which the reward model has learnt, whichever of several was drawn; what was
    // cut off gets it, too.
    const scores = yield* judging.scores(
      judge,
      sampled.map(({ finish, promptIds, tokenIds }) => [
        ...promptIds,
        ...(finish === "stop" ? tokenIds.slice(0, -1) : tokenIds),
        ...end
      ])
    )
    const scored = sampled.map((rollout, i): RolloutLog.Rollout => {
      const score = scores[i]!
      // A bound must not make a number of what is none.
      const reward = Number.isFinite(score) ? Reward.fromScore(score, rollout.finish, bounds) : score
      const text = Option.map(codec, (codec) => codec.answer(rollout.tokenIds, []))
      return { step: index + 1, ...rollout, score, reward, ...(Option.isSome(text) ? { text: text.value } : {}) }
    })
    // What is no number would be read back from JSON as null.
    if (Rollouts.unlearnable(scored) === undefined) yield* log.append(scored)
    return scored
  })
}
