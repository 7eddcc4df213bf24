"""The studio: a page over the Service, which asks it as the API does and computes nothing itself.

wishes   what the controls say, to and from an expression
visits   what one browser has asked for and been given, bounded
desk     an event of the page -> a request to the Service -> what there is to show
asking   the requests themselves, each through the queue
showing  what there is to show, as HTML
parcel   a drawing as a zip that draws it again
look     how the page looks, and the little that runs in the browser
page     the controls and what happens when they are used
gate     the few paths of the page that can be reached
mount    the page put into the application
"""
