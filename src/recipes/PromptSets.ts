/**
 * PromptSets: which prompts go into which phase.
 */
import * as Random from "../Random.ts"
import type * as Sample from "../Sample.ts"
import type { Settings } from "./Settings.ts"

/** The prompts of a run. */
export interface PromptSets {
  /** Answered by the base; the harmful ones are revised as well. */
  readonly supervised: ReadonlyArray<Sample.Prompt>
  /** Answered by the supervised policy, to be compared; reinforcement learning draws from them, too. */
  readonly preferences: ReadonlyArray<Sample.Prompt>
  /** What every model is evaluated on. */
  readonly evaluation: ReadonlyArray<Sample.Prompt>
  /** Whether the evaluation's prompts are in none of the other sets. */
  readonly heldOut: boolean
}

/** What is asked, whatever the prompt is called. */
export const content = ({ messages }: Sample.Prompt): string => JSON.stringify(messages)

/** Keeps some prompts for evaluation and uses the others in every phase: a handful would not go around otherwise. */
export const fromPrompts = (prompts: ReadonlyArray<Sample.Prompt>, settings: Settings): PromptSets => {
  const heldOut = settings.evaluation.prompts > 0 && settings.evaluation.prompts < prompts.length
  const order = Random.make(settings.seed, "held-out prompts").shuffle(prompts.map(({ id }) => id))
  const kept = new Set(heldOut ? order.slice(0, settings.evaluation.prompts) : [])
  // A prompt that stands in a file twice must not be trained on and tested on.
  const tested = new Set(prompts.filter(({ id }) => kept.has(id)).map(content))
  const rest = prompts.filter((prompt) => !tested.has(content(prompt)))
  const take = (harmful: number, benign: number) => [
    ...rest.filter(({ kind }) => kind === "harmful").slice(0, harmful),
    ...rest.filter(({ kind }) => kind === "benign").slice(0, benign)
  ]
  return {
    supervised: take(settings.supervised.prompts, settings.supervised.benign),
    preferences: take(settings.preferences.prompts, settings.preferences.benign),
    // Enough to see a difference; more would only cost time when they are not even new.
    evaluation: heldOut ? prompts.filter(({ id }) => kept.has(id)) : rest.slice(0, 64),
    heldOut
  }
}

/** A prompt of an iteration, and how often the iteration had it before. */
export interface Turn {
  readonly id: string
  readonly prompt: Sample.Prompt
  readonly index: number
}

/**
 * The prompts of one iteration of reinforcement learning. Each kind is gone through in a shuffled order, again and
 * again, so every prompt has had its turn before one comes back.
 */
export const iteration = (
  prompts: ReadonlyArray<Sample.Prompt>,
  settings: Settings,
  iteration: number
): ReadonlyArray<Turn> => {
  const { batchSize, benignShare } = settings.reinforcement
  const harmful = prompts.filter(({ kind }) => kind === "harmful")
  const benign = prompts.filter(({ kind }) => kind === "benign")
  const wanted = Math.round(batchSize * benignShare)
  const benignCount = benign.length === 0 ? 0 : harmful.length === 0 ? batchSize : wanted
  const seen = new Map<string, number>()
  const draw = (kind: string, pool: ReadonlyArray<Sample.Prompt>, count: number): ReadonlyArray<Turn> => {
    const orders = new Map<number, ReadonlyArray<Sample.Prompt>>()
    return Array.from({ length: count }, (_, i) => {
      const at = iteration * count + i
      const epoch = Math.floor(at / pool.length)
      const order = orders.get(epoch) ?? Random.make(settings.seed, "iteration prompts", kind, epoch).shuffle(pool)
      orders.set(epoch, order)
      const prompt = order[at % pool.length]!
      const index = seen.get(prompt.id) ?? 0
      seen.set(prompt.id, index + 1)
      return { id: `${prompt.id}/${index}`, prompt, index }
    })
  }
  return [...draw("harmful", harmful, batchSize - benignCount), ...draw("benign", benign, benignCount)]
}
