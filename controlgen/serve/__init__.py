"""HTTP API, client and studio on top of the Editor.

limits            limits of a request and of the queue
schemas           requests and responses as pydantic models
serialization     images and arrays in JSON
registry          the served models and their saved directions
request_parsing   parse and limit the contents of a request
responses         build responses from the results of an Editor
service           request -> response, without HTTP
job_queue         the queue for all model work
auth, middleware  checks before a request is parsed
app               the FastAPI application
client            the client, with remote_edit (its results) and http_pool (its connections)
"""
