/**
 * Samples: a prompt once for each answer that it gets, so that each answer succeeds or fails for itself.
 *
 * @internal
 */
import { Stream } from "effect"
import type { Prompt } from "../Sample.ts"
import { positive } from "../Positive.ts"
import * as Stage from "../Stage.ts"

/** A place for one answer; rejected under the id of its prompt. */
export interface Place {
  readonly id: string
  readonly prompt: Prompt
  /** Which sample of the prompt it is, from 0. */
  readonly index: number
}

/** `samples` places for each prompt. */
export const places = (samples: number): Stage.Stage<Prompt, Place> => {
  const length = positive("samples", samples)
  return Stage.from((prompts) =>
    prompts.pipe(
      Stream.map((prompt) => Array.from({ length }, (_, index): Place => ({ id: prompt.id, prompt, index }))),
      Stream.flattenIterable
    )
  )
}
