"""HTTP API and studio: thin skins over the Editor, with no mathematics of their own.

limits      what one request may ask
schemas     requests and answers, as pydantic models
codec       images and arrays, to and from what JSON can hold
models      the maps that are served, and the directions kept beside each
reading     what a request holds, held to the limits
telling     what the Editor says, put into the schemas
service     request -> answer, without HTTP
work        the one queue that all model work goes through
guards      what happens to a request before any of it is read
api         the FastAPI application
"""
