export { lastText, startModel } from "../../demo/model.ts";
export type {
  ChatMessage,
  ChatRequest,
  Script,
  ScriptedCall,
  ScriptedModel,
  ScriptedTurn,
  SeenRequest,
} from "../../demo/model.ts";
