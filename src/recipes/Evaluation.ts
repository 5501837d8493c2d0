/**
 * Evaluation: the models of a run, one after the other, on the same prompts.
 *
 * The base with its revisions, the supervised and the reinforced policy answer; the evaluator says what it knows of
 * the answers, and the reward model scores them.
 */
import { Effect, Stream } from "effect"
import { type Answer, type Evaluation, Evaluator } from "../evaluation/Evaluator.ts"
import type { Policy } from "../Policy.ts"
import * as OnnxLanguageModel from "../providers/onnx/OnnxLanguageModel.ts"
import * as Random from "../Random.ts"
import type { RewardModel } from "../RewardModel.ts"
import * as Sample from "../Sample.ts"
import * as Stage from "../Stage.ts"
import * as Response from "../stages/Response.ts"
import * as Progress from "./Progress.ts"
import type { PromptSets } from "./PromptSets.ts"
import { recorded } from "./Recorded.ts"
import * as Records from "./Records.ts"
import { Run } from "./Run.ts"
import * as Scores from "./Scores.ts"
import type { Settings } from "./Settings.ts"
import * as Supervised from "./Supervised.ts"

/** What is evaluated. */
export interface Subjects {
  readonly supervised: Policy["Service"]
  readonly reinforced: Policy["Service"]
  readonly rewardModel: RewardModel["Service"]
  /** Labels of the judge that the reward model has not seen. */
  readonly heldOut: ReadonlyArray<Sample.Preference>
}

/** How often the reward model agrees with what is known of pairs. */
export interface Accuracy {
  readonly accuracy: number | null
  readonly pairs: number
  /** What the pairs are. */
  readonly of: string
}

/** The result of the evaluation. */
export interface Evaluations {
  readonly base: Evaluation
  /** Number 0 is the answer before any revision. */
  readonly revisions: ReadonlyArray<Evaluation>
  readonly supervised: Evaluation
  readonly reinforced: Evaluation
  /** On pairs of which it is known which answer is the less harmful one; on held-out labels where nobody knows. */
  readonly pairs: Accuracy
  /** The same with the base's answers against the supervised policy's. */
  readonly againstBase: Accuracy | undefined
  /** On the held-out labels of the judge. */
  readonly labels: Accuracy
}

/** Answers of a policy to all prompts; what could not be answered counts as an empty answer. */
const sample = Effect.fnUntraced(function* (
  name: "supervised" | "reinforced",
  policy: Policy["Service"],
  prompts: ReadonlyArray<Sample.Prompt>,
  index: number,
  settings: Settings
) {
  const { concurrency } = settings
  const log = yield* Records.answers(`evaluation/${name}-${index}.jsonl`)
  const seed = Random.hash(settings.seed, "evaluation", name)
  const { temperature } = settings.supervised
  yield* Stream.fromIterable(prompts).pipe(
    Stage.make("Response", (prompt: Sample.Prompt) =>
      Response.one(prompt, { seed, temperature, maxTokens: settings.evaluation.maxTokens, index })
    ).pipe(
      recorded(`evaluation/${name}-${index}`, {
        log,
        key: (prompt: Sample.Prompt) => Records.answerKey(prompt, index),
        concurrency
      }),
      Stage.provide(OnnxLanguageModel.fromPolicy(policy))
    ),
    Stream.runDrain
  )
  yield* log.settle(prompts.map((prompt) => Records.answerKey(prompt, index)))
  return prompts.map((prompt): Answer => ({
    prompt,
    text: log.get(Records.answerKey(prompt, index))?.text ?? ""
  }))
})

/** Two answers to a prompt, and which one is known to be better. */
interface Pair {
  readonly first: Answer
  readonly second: Answer
  /** Above 0 if the first is better, below 0 if the second is. */
  readonly gap: number
}

const accuracy = Effect.fnUntraced(function* <E>(
  of: string,
  pairs: ReadonlyArray<Pair>,
  score: (answer: Answer) => Effect.Effect<number | undefined, E>,
  concurrency: number
) {
  const unequal = pairs.filter(({ gap }) => gap !== 0)
  const right = yield* Effect.forEach(
    unequal,
    ({ first, second, gap }) =>
      Effect.map(Effect.all([score(first), score(second)], { concurrency: 2 }), ([a, b]) =>
        a === undefined || b === undefined ? [] : [(a - b) * gap > 0]
      ),
    { concurrency }
  ).pipe(Effect.map((found) => found.flat()))
  const share = right.length === 0 ? null : right.filter((is) => is).length / right.length
  return { accuracy: share, pairs: right.length, of } satisfies Accuracy
})

const isHarmful = ({ prompt }: Answer) => prompt.kind === "harmful"

const mean = (numbers: ReadonlyArray<number>) => numbers.reduce((sum, n) => sum + n, 0) / numbers.length

/** Evaluates the models of a run. */
export const evaluate = Effect.fn("Evaluation.evaluate")(function* (
  settings: Settings,
  sets: PromptSets,
  { supervised, reinforced, rewardModel, heldOut }: Subjects
) {
  const run = yield* Run
  const evaluator = yield* Evaluator
  const prompts = sets.evaluation
  const { concurrency } = settings
  const { rounds } = settings.supervised
  const harmful = prompts.filter(({ kind }) => kind === "harmful")
  const benign = prompts.filter(({ kind }) => kind === "benign").slice(0, settings.evaluation.benignRevisions)
  const revise = new Set([...harmful, ...benign].map(({ id }) => id))
  const known = evaluator.compare
  const total = prompts.length * 3 + (known === undefined ? 0 : harmful.length) + revise.size * 2 * rounds

  return yield* Effect.gen(function* () {
    const scores = yield* Scores.make("evaluation/scores.jsonl", rewardModel)
    const score = ({ prompt, text }: Answer) =>
      scores.score({ id: Sample.id("score", Sample.identity(prompt), text), prompt, text })
    const revised = yield* Supervised.revise(settings, {
      prompts,
      revise: ({ id }) => revise.has(id),
      dir: "evaluation",
      // Prompts that were trained on have been answered and revised before.
      ...(sets.heldOut
        ? { purpose: "evaluation", maxTokens: settings.evaluation.maxTokens }
        : { like: "supervised", purpose: "revise", maxTokens: settings.supervised.maxTokens })
    })
    const byPrompt = new Map(revised.map(({ answers, prompt }) => [prompt.id, answers]))
    const base = prompts.map((prompt): Answer => ({ prompt, text: byPrompt.get(prompt.id)?.[0]?.text ?? "" }))
    const afterRound = (round: number) =>
      revised
        .filter(({ prompt }) => revise.has(prompt.id))
        // An answer that could not be revised further stays as it is.
        .map(({ answers, prompt }): Answer => ({ prompt, text: (answers[round] ?? answers.at(-1)!).text }))
    const sl = yield* sample("supervised", supervised, prompts, 0, settings)
    const rl = yield* sample("reinforced", reinforced, prompts, 0, settings)

    // Where the evaluator knows the answers itself, scores of all of them would only cost time.
    const report = Effect.fnUntraced(function* (answers: ReadonlyArray<Answer>) {
      const all = known === undefined ? yield* Effect.forEach(answers, score, { concurrency }) : []
      const scores = all.filter((score) => score !== undefined)
      return {
        ...evaluator.evaluate(answers),
        reward: scores.length === 0 ? null : mean(scores),
        answers: answers.length,
        ...(evaluator.note === undefined ? {} : { note: evaluator.note })
      } satisfies Evaluation
    })
    const rounded = yield* Effect.forEach(
      Array.from({ length: rounds + 1 }, (_, round) => round),
      (round) => report(afterRound(round))
    )
    const labels = yield* accuracy(
      "held-out labels of the judge",
      heldOut.map(({ comparison: { prompt, first, second }, probability }) => ({
        first: { prompt, text: first.text },
        second: { prompt, text: second.text },
        gap: probability - 0.5
      })),
      score,
      concurrency
    )
    const compared =
      known === undefined
        ? undefined
        : (name: string, first: ReadonlyArray<Answer>, second: ReadonlyArray<Answer>) =>
            accuracy(
              name,
              second.map((other, i) => {
                const answer = first[i]!
                return { first: answer, second: other, gap: known(answer.prompt, answer.text, other.text) }
              }),
              score,
              concurrency
            )
    // Harm gaps are found between answers to harmful prompts.
    const again = compared === undefined ? [] : yield* sample("supervised", supervised, harmful, 1, settings)
    const evaluations: Evaluations = {
      base: yield* report(base),
      revisions: rounded,
      supervised: yield* report(sl),
      reinforced: yield* report(rl),
      pairs:
        compared === undefined
          ? labels
          : yield* compared("held-out pairs of SL-CAI with a harm gap", sl.filter(isHarmful), again),
      againstBase: compared === undefined ? undefined : yield* compared("the base against SL-CAI", base, sl),
      labels
    }
    yield* scores.settle
    return evaluations
  }).pipe(Progress.phase("evaluation", total), (self) => run.phase("evaluation", self))
})
