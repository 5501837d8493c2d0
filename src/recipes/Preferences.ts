/**
 * Preferences: AI feedback on pairs of answers of the supervised policy (Bai et al. 2022, section 4.1).
 */
import { Effect, Stream } from "effect"
import type { Policy } from "../Policy.ts"
import * as OnnxLanguageModel from "../providers/onnx/OnnxLanguageModel.ts"
import * as Random from "../Random.ts"
import * as Sample from "../Sample.ts"
import * as Stage from "../Stage.ts"
import * as Preference from "../stages/Preference.ts"
import * as Response from "../stages/Response.ts"
import * as Transcript from "../Transcript.ts"
import * as Feedback from "./Feedback.ts"
import * as Progress from "./Progress.ts"
import * as PromptSets from "./PromptSets.ts"
import { recorded } from "./Recorded.ts"
import * as Records from "./Records.ts"
import { Run } from "./Run.ts"
import { failed } from "./RunError.ts"
import type { Settings } from "./Settings.ts"

/** The soft labels of a run, those that train the reward model and those that test it. */
export interface Preferences {
  readonly training: ReadonlyArray<Sample.Preference>
  readonly heldOut: ReadonlyArray<Sample.Preference>
}

/** A pair to be sampled: the answers `2 pair` and `2 pair + 1` to a prompt. */
interface Slot {
  readonly id: string
  readonly prompt: Sample.Prompt
  readonly pair: number
}

const slotKey = ({ prompt, pair }: Slot) => `${Records.answerKey(prompt, 2 * pair)}/${2 * pair + 1}`

/** Pairs sampled from the policy and judged by the base, in both orders. */
export const collect = Effect.fn("Preferences.collect")(function* (
  settings: Settings,
  prompts: ReadonlyArray<Sample.Prompt>,
  policy: Policy["Service"]
) {
  const run = yield* Run
  const { concurrency } = settings
  const { samples, maxTokens, temperature, principles, reasoning } = settings.preferences
  const seed = Random.hash(settings.seed, "preferences")
  const slots = prompts.flatMap((prompt) =>
    Array.from({ length: Math.floor(samples / 2) }, (_, pair): Slot => ({ id: prompt.id, prompt, pair }))
  )
  const answer = (prompt: Sample.Prompt, index: number) => Response.one(prompt, { seed, maxTokens, temperature, index })
  const pairs = Stage.make("Pair", ({ prompt, pair }: Slot) =>
    Effect.map(
      Effect.all([answer(prompt, 2 * pair), answer(prompt, 2 * pair + 1)], { concurrency: 2 }),
      ([first, second]) => Sample.comparison(first, second)
    )
  )
  const judged = yield* Effect.gen(function* () {
    const log = yield* Records.preferences
    yield* Stream.fromIterable(slots).pipe(
      pairs.pipe(
        recorded("pair", { log: log.pairs, key: slotKey, concurrency }),
        Stage.provide(OnnxLanguageModel.fromPolicy(policy))
      ),
      Preference.stage({ seed, principles, reasoning }).pipe(
        recorded("preference", { log: log.preferences, key: Records.pairKey, concurrency }),
        Stage.provide(Feedback.judge)
      ),
      Stream.runDrain
    )
    yield* log.pairs.settle(slots.map(slotKey))
    yield* log.preferences.settle(slots.map(slotKey))
    return slots.flatMap((slot) => log.preferences.get(slotKey(slot)) ?? [])
  }).pipe(Progress.phase("preferences", 2 * slots.length), (self) => run.phase("preferences", self))

  if (judged.length === 0) {
    return yield* failed(
      `There is nothing to compare: no pair of answers has a label; ${run.path("rejected.jsonl")} says why.`
    )
  }
  return split(settings, judged)
})

/**
 * Keeps a share of the labels out of the training: at least one, unless all are about one prompt. The labels of a prompt
 * stay together, so that nothing is tested on what was trained on; hence the share is as near as whole prompts allow.
 */
export const split = (settings: Settings, all: ReadonlyArray<Sample.Preference>): Preferences => {
  const share = settings.reward.holdout
  const prompts = [...Map.groupBy(all, ({ comparison }) => PromptSets.content(comparison.prompt)).values()]
  if (share === 0 || prompts.length < 2) return { training: all, heldOut: [] }
  const count = Math.min(all.length - 1, Math.max(1, Math.round(all.length * share)))
  const order = Random.make(settings.seed, "held-out pairs").shuffle(prompts)
  const kept = new Set<Sample.Preference>()
  for (const labels of order) {
    const more = kept.size + labels.length
    if (more === all.length || Math.abs(more - count) > Math.abs(kept.size - count)) continue
    for (const label of labels) kept.add(label)
  }
  const fewest = order.reduce((a, b) => (b.length < a.length ? b : a))
  const heldOut = kept.size === 0 ? new Set(fewest) : kept
  return { training: all.filter((label) => !heldOut.has(label)), heldOut: all.filter((label) => heldOut.has(label)) }
}

/** What the reward model learns from a soft label. */
export const example = Transcript.preferenceExample
