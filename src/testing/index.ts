/**
 * Mocks of every model, for tests of stages and recipes: nothing native is loaded.
 */
export * as CallLog from "./CallLog.ts"
export * as MockDecisionModel from "./MockDecisionModel.ts"
export * as MockLanguageModel from "./MockLanguageModel.ts"
export * as MockModels from "./MockModels.ts"
export * as MockPolicy from "./MockPolicy.ts"
export * as MockRewardModel from "./MockRewardModel.ts"
export * as Recording from "./Recording.ts"
export type { Script } from "./Script.ts"
