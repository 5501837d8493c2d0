/**
 * Rollout: the policy in training answers a prompt, with the token ids and log-probabilities that its update needs.
 *
 * An empty or an endless answer is a rollout, too: it is the reward that teaches the policy not to write it.
 */
import { Effect } from "effect"
import { Policy } from "../Policy.ts"
import type { PolicyError } from "../Policy.ts"
import * as Sample from "../Sample.ts"
import * as Sampling from "../Sampling.ts"
import * as Stage from "../Stage.ts"
import * as Transcript from "../Transcript.ts"
import * as Samples from "./Samples.ts"

export interface Options extends Sampling.Options {
  /** The iteration of reinforcement learning, from 0. */
  readonly iteration: number
  /** Which sample of the prompt it is, from 0. */
  readonly index?: number | undefined
}

/** One rollout. */
export const one = Effect.fnUntraced(function* (
  prompt: Sample.Prompt,
  options: Options
): Effect.fn.Return<Sample.Rollout, PolicyError, Policy> {
  const { iteration, index = 0 } = options
  const policy = yield* Policy
  const transcript = yield* Transcript.Transcript
  const { options: _, principle: __, ...sampling } = Sampling.merge(yield* Sampling.Sampling, options)
  const { context, stop } = transcript.response(prompt)
  const id = `${prompt.id}/${index}/rollout/${iteration}`
  const completion = yield* policy.sample({ ...sampling, id, context, stop })
  const text = completion.text.trim()
  return Sample.rollout({ ...completion, prompt, iteration, index, text, model: policy.model, seed: sampling.seed })
}, Stage.span("Rollout.one"))

export interface StageOptions extends Sampling.Options, Stage.Options {
  readonly iteration: number
  /** How many rollouts each prompt gets; 1 if not given. */
  readonly samples?: number | undefined
}

/** Rollouts of prompts. */
export const stage = (options: StageOptions): Stage.Stage<Sample.Prompt, Sample.Rollout, PolicyError, Policy> =>
  Samples.places(options.samples ?? 1).pipe(
    Stage.compose(
      Stage.make("Rollout", ({ prompt, index }: Samples.Place) => one(prompt, { ...options, index }), options)
    )
  )
