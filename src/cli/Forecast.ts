/**
 * Forecast: what hosted models will be asked in a run, in a line before it begins.
 *
 * The stages themselves are run on a few of the prompts with models that only count, and the counts are multiplied.
 * Answers are taken as long as they may get, so the forecast is about the most that a run takes.
 */
import { Effect, Stream } from "effect"
import * as Estimate from "../providers/http/Estimate.ts"
import * as Tokens from "../providers/http/Tokens.ts"
import * as Usage from "../providers/http/Usage.ts"
import type { PromptSets } from "../recipes/PromptSets.ts"
import type { Settings } from "../recipes/Settings.ts"
import * as Sample from "../Sample.ts"
import * as Critique from "../stages/Critique.ts"
import * as Preference from "../stages/Preference.ts"
import * as Response from "../stages/Response.ts"
import * as Revision from "../stages/Revision.ts"
import { type Hosted, votesOf } from "./Hosted.ts"

/** Calls and their tokens. */
export interface Forecast {
  readonly calls: number
  readonly tokens: Tokens.Tokens
}

/** So many prompts stand for all of them. */
const few = 16

const isHarmful = ({ kind }: Sample.Prompt) => kind === "harmful"

/** The calls of the given stages in a program over a few prompts, as if over `times` of them. */
const counted = <E, R>(
  prompts: ReadonlyArray<Sample.Prompt>,
  times: number,
  stages: ReadonlyArray<string>,
  program: (prompts: Stream.Stream<Sample.Prompt>) => Effect.Effect<void, E, R>,
  options: Estimate.Options
) =>
  Effect.gen(function* () {
    const sample = prompts.slice(0, few)
    const rows = yield* Estimate.of(program(Stream.fromIterable(sample)), { answerTokens: Infinity, ...options })
    const scale = sample.length === 0 ? 0 : times / sample.length
    const sums = Usage.by(rows, "stage")
    return stages.flatMap((stage): ReadonlyArray<Forecast> => {
      const sum = sums.get(stage)
      if (sum === undefined) return []
      const { input, output } = sum.tokens
      return [{ calls: sum.calls * scale, tokens: { input: input * scale, output: output * scale } }]
    })
  })

/** The prompts that the evaluation revises; on those that the training revised, it finds the revisions there already. */
const revisedInEvaluation = (
  { evaluation, heldOut }: PromptSets,
  trained: ReadonlyArray<Sample.Prompt>,
  benignRevisions: number
): ReadonlyArray<Sample.Prompt> => {
  const there = new Set(heldOut ? [] : trained.map(Sample.identity))
  const benign = evaluation.filter((prompt) => !isHarmful(prompt)).slice(0, benignRevisions)
  return [...evaluation.filter(isHarmful), ...benign].filter((prompt) => !there.has(Sample.identity(prompt)))
}

/** What the hosted models will be asked, if nothing is done yet; in the transcript and under the constitution in force. */
export const of = Effect.fnUntraced(function* ({ judge, critic }: Hosted, settings: Settings, sets: PromptSets) {
  const { seed, supervised, preferences, evaluation } = settings
  const harmful = sets.supervised.filter(isHarmful)
  const revising = (prompts: ReadonlyArray<Sample.Prompt>, maxTokens: number) =>
    counted(
      prompts,
      prompts.length * supervised.rounds,
      ["critique", "revision"],
      (prompts) =>
        prompts.pipe(
          Response.stage({ seed, maxTokens }),
          Critique.stage({ seed, maxTokens: supervised.critiqueTokens }),
          Revision.stage({ seed, maxTokens }),
          Stream.runDrain
        ),
      {}
    )
  const evaluated = sets.heldOut ? evaluation.maxTokens : supervised.maxTokens
  const revised =
    critic === undefined
      ? []
      : [
          ...(yield* revising(harmful, supervised.maxTokens)),
          ...(yield* revising(revisedInEvaluation(sets, harmful, evaluation.benignRevisions), evaluated))
        ]
  const pairs = sets.preferences.length * Math.floor(preferences.samples / 2)
  const judging =
    judge === undefined
      ? []
      : yield* counted(
          sets.preferences,
          pairs,
          ["preference"],
          (prompts) =>
            prompts.pipe(
              Response.pair({ seed, maxTokens: preferences.maxTokens }),
              Preference.stage({ seed, principles: preferences.principles, reasoning: preferences.reasoning }),
              Stream.runDrain
            ),
          { votes: votesOf(judge, settings) }
        )
  return [...revised, ...judging].reduce<Forecast>(
    (sum, { calls, tokens }) => ({ calls: sum.calls + calls, tokens: Tokens.add(sum.tokens, tokens) }),
    { calls: 0, tokens: Tokens.zero }
  )
})

/** A number as a person reads it, and no smaller than it is: `950`, `12,000`, `1.3 million`. */
const large = (n: number): string => {
  if (n >= 1e6) return `${(Math.ceil(n / 1e5) / 10).toFixed(1)} million`
  const digits = Math.max(0, Math.floor(Math.log10(Math.max(1, n))) - 1)
  return (Math.ceil(n / 10 ** digits) * 10 ** digits).toLocaleString("en")
}

const priceOf = ({ budget }: Settings): Tokens.Price => ({ input: budget.inputPrice, output: budget.outputPrice })

/** Tokens in words, with what they cost where prices are known. */
const inWords = (tokens: Tokens.Tokens, settings: Settings): string => {
  const cost = Tokens.cost(tokens, priceOf(settings))
  const money = cost === 0 ? "" : `, $${cost.toFixed(2)}`
  return `${large(tokens.input)} tokens read and ${large(tokens.output)} written${money}`
}

/** The forecast as a line; `spent` is what earlier starts took. */
export const words = ({ calls, tokens }: Forecast, spent: Tokens.Tokens, settings: Settings): string => {
  const { budget } = settings
  const over =
    (budget.tokens > 0 && Tokens.total(tokens) > budget.tokens) ||
    (budget.dollars > 0 && Tokens.cost(tokens, priceOf(settings)) > budget.dollars)
  const before = Tokens.total(spent) === 0 ? "" : `; ${inWords(spent, settings)} so far`
  const stop = over ? "; the budget may end before: the run then stops, and goes on with a larger one" : ""
  return `Hosted models: at most about ${large(calls)} calls, ${inWords(tokens, settings)}${before}${stop}.`
}
