/**
 * Charter: Constitutional AI end to end in TypeScript.
 *
 * Nothing here loads native code: the engine is in `charter-ai/engine`, models over it in `charter-ai/providers/onnx`,
 * hosted ones in `charter-ai/providers/openai-compatible` and `charter-ai/providers/anthropic`, mocks of all of them in
 * `charter-ai/testing`, and the formats of the field in `charter-ai/data`. Each module is there by its path as well
 * (`charter-ai/stages/Critique`): the declarations of a program name its types by these.
 *
 * @example
 * import { Critique, Response, Revision } from "charter-ai"
 *
 * prompts.pipe(Response.stage(), Critique.stage(), Revision.stage())
 */

// What is named everywhere.
export * as Constitution from "./Constitution.ts"
export * as Models from "./Models.ts"
export * as Policy from "./Policy.ts"
export * as RewardModel from "./RewardModel.ts"
export * as Sample from "./Sample.ts"
export * as Sampling from "./Sampling.ts"
export * as Stage from "./Stage.ts"
export * as Transcript from "./Transcript.ts"

// The stages.
export * as Critique from "./stages/Critique.ts"
export * as PolicyUpdate from "./stages/PolicyUpdate.ts"
export * as Preference from "./stages/Preference.ts"
export * as Response from "./stages/Response.ts"
export * as Revision from "./stages/Revision.ts"
export * as Reward from "./stages/Reward.ts"
export * as Rollout from "./stages/Rollout.ts"

// Data in, judgements out.
export * as Evaluator from "./evaluation/Evaluator.ts"
export * as Prompts from "./data/Prompts.ts"

// The recipes of the paper, what they are made of, and the folder that they work in.
export * as ConstitutionalAi from "./recipes/ConstitutionalAi.ts"
export * as Evaluation from "./recipes/Evaluation.ts"
export * as Feedback from "./recipes/Feedback.ts"
export * as Manifest from "./recipes/Manifest.ts"
export * as Phases from "./recipes/Phases.ts"
export * as Preferences from "./recipes/Preferences.ts"
export * as Progress from "./recipes/Progress.ts"
export * as PromptSets from "./recipes/PromptSets.ts"
export * as Recipe from "./recipes/Recipe.ts"
export * as Recorded from "./recipes/Recorded.ts"
export * as Records from "./recipes/Records.ts"
export * as Reinforcement from "./recipes/Reinforcement.ts"
export * as Run from "./recipes/Run.ts"
export * as Settings from "./recipes/Settings.ts"
export * as Supervised from "./recipes/Supervised.ts"
export * as Training from "./recipes/Training.ts"
