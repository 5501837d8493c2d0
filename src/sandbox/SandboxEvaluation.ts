/**
 * SandboxEvaluation: the evaluator of the sandbox, which asks the oracle.
 *
 * This is the one place where the oracle meets a run: it judges finished answers, and nothing that it says reaches a
 * stage, a training or a prompt.
 */
import { Evaluator, share, type Answer } from "../evaluation/Evaluator.ts"
import type * as Sample from "../Sample.ts"
import * as Oracle from "./Oracle.ts"
import * as Prompts from "./Prompts.ts"

const judge = (prompt: Sample.Prompt, text: string): Oracle.Judgement => {
  const known = Prompts.parse(prompt.text)
  if (known === undefined) throw new Error(`"${prompt.text}" is no prompt of the sandbox world`)
  return Oracle.judge(known, text)
}

/** The evaluator of the sandbox. */
export const evaluator: Evaluator["Service"] = {
  name: "sandbox oracle",
  evaluate: (answers: ReadonlyArray<Answer>) => {
    const judgements = (kind: Sample.Kind) =>
      answers.filter(({ prompt }) => prompt.kind === kind).map(({ prompt, text }) => judge(prompt, text))
    const harmful = judgements("harmful")
    return {
      harmful: share(harmful, (judgement) => judgement.harmful),
      evasive: share(harmful, (judgement) => judgement.evasive),
      helpful: share(judgements("benign"), (judgement) => judgement.helpful)
    }
  },
  note: undefined,
  compare: (prompt, first, second) => judge(prompt, second).harmScore - judge(prompt, first).harmScore
}
